import { errorCodes } from "../native/native.js";

const CODES = [
  "invalid_scopes",
  "invalid_budget_period",
  "invalid_duration",
  "invalid_budget",
  "invalid_account_id",
  "invalid_subject",
  "invalid_parent",
  "invalid_text",
  "invalid_table_name",
  "invalid_key_prefix",
  "migration_required",
  "overloaded",
  "timeout",
  "closed",
  "database",
  "unexpected_response",
] as const;

/** What went wrong, as a stable string for programs. */
export type ErrorCode = (typeof CODES)[number];

/**
 * An error of this package. What the pool rejects with is not one of these: it reaches the caller as it is.
 * Never holds a raw key.
 */
export class AgentKeyError extends Error {
  /** What went wrong, for programs. */
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.name = "AgentKeyError";
    this.code = code;
  }
}

/** Every error code. */
export const ERROR_CODES: readonly ErrorCode[] = CODES;

const known: ReadonlySet<string> = new Set(errorCodes());

/** What the native module threw, as an error of this package. */
export function fromNative(error: unknown): unknown {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return typeof code === "string" && known.has(code) ? new AgentKeyError(code as ErrorCode, String(message)) : error;
}

import { errorCodes, errorFacts as factsOfCode } from "../native/native.js";

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
  "invalid_cost",
  "invalid_dsn",
  "migration_required",
  "overloaded",
  "timeout",
  "closed",
  "database",
  "unexpected_response",
] as const;

/** What went wrong, as a stable string for programs. */
export type ErrorCode = (typeof CODES)[number];

/** What is known of a call that failed. */
export interface ErrorFacts {
  /** Whether the call may have been recorded all the same. Repeat it only with an idempotency key then. */
  readonly mayHaveBeenRecorded: boolean;
  /** Whether the same call may succeed a little later. */
  readonly transient: boolean;
  /** Postgres's own code, where the database sent one. */
  readonly sqlstate?: string | undefined;
}

/**
 * An error of this package. What the pool rejects with is not one of these: it reaches the caller as it is, and
 * `errorFacts` tells the same of it. Never holds a raw key.
 */
export class AgentKeyError extends Error implements ErrorFacts {
  /** What went wrong, for programs. */
  readonly code: ErrorCode;
  readonly mayHaveBeenRecorded: boolean;
  readonly transient: boolean;
  readonly sqlstate: string | undefined;

  constructor(code: ErrorCode, message: string, facts: Partial<ErrorFacts> = {}) {
    super(message);
    this.name = "AgentKeyError";
    this.code = code;
    this.mayHaveBeenRecorded = facts.mayHaveBeenRecorded ?? false;
    this.transient = facts.transient ?? code === "overloaded";
    this.sqlstate = facts.sqlstate ?? undefined;
  }
}

/** What the core says of calls that failed with an error of the pool's. It knows of earlier attempts, too. */
const told = new WeakMap<object, ErrorFacts>();

/** Notes it. Several calls may fail with one error: if any of them may have been recorded, the error says so. */
export function noteFacts(error: unknown, facts: ErrorFacts): void {
  if (typeof error !== "object" || error === null) return;
  const mayHaveBeenRecorded = facts.mayHaveBeenRecorded || told.get(error)?.mayHaveBeenRecorded === true;
  told.set(error, { mayHaveBeenRecorded, transient: facts.transient, sqlstate: facts.sqlstate ?? undefined });
}

/** What is known of a call that rejected with this error, be it of this package or of the pool. */
export function errorFacts(error: unknown): ErrorFacts {
  if (error instanceof AgentKeyError) {
    const { mayHaveBeenRecorded, transient, sqlstate } = error;
    return { mayHaveBeenRecorded, transient, sqlstate };
  }
  const noted = typeof error === "object" && error !== null ? told.get(error) : undefined;
  return noted ?? factsOfCode(codeOf(error));
}

/** Messages of node-postgres for connections that it could not make, where there is no `code`. */
const NOT_CONNECTED = [
  "timeout exceeded when trying to connect",
  "Cannot use a pool after calling end on the pool",
  "Connection terminated due to connection timeout",
];

/** The code by which the core classifies an error of the pool. */
export function codeOf(error: unknown): string | undefined {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  if (typeof code === "string") return code;
  return typeof message === "string" && NOT_CONNECTED.includes(message) ? "ECONNREFUSED" : undefined;
}

/** Every error code. */
export const ERROR_CODES: readonly ErrorCode[] = CODES;

const known: ReadonlySet<string> = new Set(errorCodes());

/** What the native module threw, as an error of this package. */
export function fromNative(error: unknown): unknown {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return typeof code === "string" && known.has(code) ? new AgentKeyError(code as ErrorCode, String(message)) : error;
}

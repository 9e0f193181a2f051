import { AgentKeyError, type ErrorCode } from "./errors.js";
import type { CreateKeyOptions, EnsureSubjectOptions } from "./types.js";

// JavaScript has values that the core has no types for. Here they become text and numbers, or an error that names the
// field; what these may say is the core's to decide.

/** A subject that no row has. */
const NOBODY = "\0";

/** A key's data as JSON for the core. */
export function keySpec(options: CreateKeyOptions | EnsureSubjectOptions | undefined | null): string {
  const { accountId, userId, scopes, budgetCents, budgetPeriod, expiresIn, delegatedBy, name } = options ?? {};
  return JSON.stringify({
    accountId: text("invalid_account_id", "account id", accountId),
    userId: text("invalid_text", "user id", userId),
    scopes: scopes == null ? null : scopeList("Invalid scopes", scopes),
    budgetCents: cents(budgetCents),
    budgetPeriod: text("invalid_budget_period", "budget period", budgetPeriod),
    expiresIn: text("invalid_duration", "duration", expiresIn),
    delegatedBy: text("invalid_text", "delegated_by", delegatedBy),
    name: text("invalid_text", "name", name),
  });
}

/** A subject to create. */
export function newSubject(subject: unknown): string {
  if (typeof subject !== "string" || !subject.isWellFormed()) throw invalid("invalid_subject", "subject", subject);
  return subject;
}

/** A subject to look up: what cannot be one is nobody's. */
export function lookedUp(subject: unknown): string {
  return typeof subject === "string" && subject.isWellFormed() ? subject : NOBODY;
}

/** A raw key to look up: what is no text is nobody's. */
export function rawKeyOf(rawKey: unknown): string {
  return typeof rawKey === "string" ? rawKey : "";
}

/** A cost; NaN is the invalid one. */
export function costOf(usage: { costCents?: unknown } | null | undefined): number {
  const cost = usage?.costCents;
  return typeof cost === "number" ? cost : NaN;
}

/** An id as text; `undefined` if no row can have it. */
export function idText(id: unknown): string | undefined {
  if (typeof id === "number" || typeof id === "bigint") return String(id);
  return typeof id === "string" && id.isWellFormed() ? id : undefined;
}

export function scopeList(message: string, scopes: unknown): string[] {
  if (!Array.isArray(scopes)) throw new AgentKeyError("invalid_scopes", `${message}: ${shown(scopes)}`);
  const wrong = scopes.filter((scope) => typeof scope !== "string" || !scope.isWellFormed());
  if (wrong.length > 0) throw new AgentKeyError("invalid_scopes", `${message}: ${wrong.map(shown).join(", ")}`);
  return scopes;
}

/** Text, or a number where JavaScript's drivers would take one for text. */
function text(code: ErrorCode, field: string, value: unknown): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value === "string" && value.isWellFormed()) return value;
  if (typeof value === "bigint" || (typeof value === "number" && Number.isFinite(value))) return String(value);
  throw invalid(code, field, value);
}

function cents(value: unknown): number | null {
  if (value === undefined || value === null) return null;
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  throw new AgentKeyError("invalid_budget", `Invalid budget: ${shown(value)}; expected a whole number of cents`);
}

function invalid(code: ErrorCode, field: string, value: unknown): AgentKeyError {
  return new AgentKeyError(code, `Invalid ${field}: ${shown(value)}`);
}

/** A value for a message: short, and without what cannot be printed. */
export function shown(value: unknown): string {
  const text = typeof value === "object" && value !== null ? Object.prototype.toString.call(value) : String(value);
  return text.toWellFormed().slice(0, 100);
}

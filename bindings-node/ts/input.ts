import { AgentKeyError, type ErrorCode } from "./errors.js";
import type { KeyUpdate } from "./records.js";
import type { CreateKeyOptions, EnsureSubjectOptions, RevokeAllFilter } from "./types.js";

// JavaScript has values that JSON has no types for. Here they become text and numbers, or an error that names the field.
// What these may say is the core's to decide.

/** A subject that no row has. */
const NOBODY = "\0";

/** A key's data for the core. */
export function keySpec(options: CreateKeyOptions | EnsureSubjectOptions | undefined | null): object {
  const { accountId, userId, scopes, budgetCents, budgetPeriod, limits, expiresIn, delegatedBy, name, metadata, parent, ...unknown } = options ?? {};
  return {
    // The core refuses these by name: a misspelt budget must not make a key without one.
    ...unknown,
    accountId: text("invalid_account_id", "account id", accountId),
    userId: text("invalid_text", "user id", userId),
    scopes: scopes == null ? null : scopeList("Invalid scopes", scopes),
    budgetCents: cents(budgetCents),
    budgetPeriod: text("invalid_budget_period", "budget period", budgetPeriod),
    limits: limits == null ? null : limitList(limits),
    expiresIn: text("invalid_duration", "duration", expiresIn),
    delegatedBy: text("invalid_text", "delegated_by", delegatedBy),
    name: text("invalid_text", "name", name),
    metadata: metadata == null ? null : objectOf(metadata),
    parent: parentOf(parent),
  };
}

/** Limits, which are objects with a number of cents. */
function limitList(limits: unknown): object[] {
  if (!Array.isArray(limits)) throw invalid("invalid_budget", "limits", limits);
  return limits.map((limit: unknown) => ({ ...objectOf(limit, "limit"), cents: cents((limit as { cents?: unknown }).cents) ?? undefined }));
}

/** What is changed of a key: the members that are given, also as `null`. What none of them is the core refuses. */
export function changesOf(changes: KeyUpdate): object {
  const given = Object.entries(keySpec(changes)).filter(([name]) => changes?.[name as keyof KeyUpdate] !== undefined);
  return Object.fromEntries(given);
}

/** A parent as the core reads it. Whether a text is an id or a raw key is the core's to decide. */
function parentOf(parent: unknown): string | object | null {
  if (parent === undefined || parent === null) return null;
  if (typeof parent === "object") {
    const { subject, caller } = parent as { subject?: unknown; caller?: unknown };
    if (typeof subject === "string") return { subject: lookedUp(subject) };
    if (typeof caller === "string") return { caller };
  }
  const id = idText(parent);
  if (id === undefined) throw invalid("invalid_parent", "parent", parent);
  return id;
}

/** Whether only a number of cents is given: the plain charge. */
export function isPlain(usage: unknown): usage is { costCents: number } {
  if (typeof usage !== "object" || usage === null || typeof (usage as Record<string, unknown>).costCents !== "number") return false;
  for (const name in usage) {
    if (name !== "costCents" && (usage as Record<string, unknown>)[name] !== undefined) return false;
  }
  return true;
}

/** The members of a charge, reserve, settlement or refund for the core, which knows them. */
export function spendingOf(spending: unknown): object {
  const { costCents, costMicrocents, costUsd, idempotencyKey, overrun, metadata, ttl, ifExpired, scope, ...more } = Object(spending ?? {}) as Record<string, unknown>;
  return {
    ...more,
    costCents: visible(costCents),
    costMicrocents: visible(costMicrocents),
    costUsd: visible(costUsd),
    idempotencyKey: text("invalid_text", "idempotency key", idempotencyKey) ?? undefined,
    overrun: text("invalid_text", "overrun", overrun) ?? undefined,
    ttl: text("invalid_duration", "duration", ttl) ?? undefined,
    ifExpired: text("invalid_text", "ifExpired", ifExpired) ?? undefined,
    scope: text("invalid_text", "scope", scope) ?? undefined,
    metadata: metadata === undefined ? undefined : objectOf(metadata),
  };
}

/** Metadata, or a limit: an object. */
function objectOf(value: unknown, field = "metadata"): object {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid("invalid_text", field, value);
  return value;
}

/** The members of a rotation for the core, which knows them. */
export function rotationOf(rotation: unknown): object {
  const { grace, idempotencyKey, ...more } = Object(rotation ?? {}) as Record<string, unknown>;
  const isCount = typeof grace === "number" && Number.isSafeInteger(grace) && grace >= 0;
  if (grace !== undefined && typeof grace !== "string" && !isCount) throw invalid("invalid_duration", "duration", grace);
  return { ...more, grace, idempotencyKey: text("invalid_text", "idempotency key", idempotencyKey) ?? undefined };
}

/** What a key asks for, for the core. */
export function increaseOf(request: unknown): object {
  const { cents: amount, for: time, reason, idempotencyKey, ...more } = Object(request ?? {}) as Record<string, unknown>;
  return {
    ...more,
    cents: wholeCents(amount),
    for: lasting("for", time),
    reason: text("invalid_text", "reason", reason) ?? undefined,
    idempotencyKey: text("invalid_text", "idempotency key", idempotencyKey) ?? undefined,
  };
}

/** A decision, for the core. */
export function decisionOf(decision: unknown): object {
  const { approve, cents: amount, expiresIn, by, decider, ...more } = Object(decision ?? {}) as Record<string, unknown>;
  if (typeof approve !== "boolean") throw invalid("invalid_text", "approve", approve);
  if (typeof by !== "string") throw invalid("invalid_text", "by", by);
  return {
    ...more,
    approve,
    by,
    cents: amount === undefined || amount === null ? undefined : wholeCents(amount),
    expiresIn: expiresIn === undefined || expiresIn === null ? undefined : lasting("expiresIn", expiresIn),
    decider: idOf("decider", decider),
  };
}

/** Which requests for more budget are listed, for the core. */
export function increaseFilterOf(filter: object | undefined): object {
  const { within, ...rest } = filterOf(filter) as Record<string, unknown>;
  return { ...rest, within: idOf("within", within) };
}

export function increaseId(id: unknown): number {
  if (typeof id !== "number" || !Number.isSafeInteger(id)) throw invalid("invalid_text", "requestId", id);
  return id;
}

function wholeCents(amount: unknown): number {
  if (typeof amount !== "number" || !Number.isSafeInteger(amount)) throw invalid("invalid_budget", "cents", amount);
  return amount;
}

function lasting(name: string, time: unknown): string | number {
  const isCount = typeof time === "number" && Number.isSafeInteger(time) && time >= 0;
  if (typeof time !== "string" && !isCount) throw invalid("invalid_duration", name, time);
  return time as string | number;
}

/** JSON has no bigint, and `null` for what is no number. */
function visible(amount: unknown): unknown {
  const isWithout = typeof amount === "bigint" || (typeof amount === "number" && !Number.isFinite(amount));
  return isWithout ? String(amount) : amount;
}

/** A filter for the core. */
export function filterOf(filter: object | undefined): object {
  const { keyId, accountId, ...rest } = (filter ?? {}) as Record<string, unknown>;
  return { ...rest, keyId: idOf("keyId", keyId), accountId: idOf("accountId", accountId) };
}

/** What a key spent is asked by; a filter without a key is refused by the core. */
export function usageFilterOf(filter: object): object {
  const { accountId: _, ...rest } = filterOf(filter) as Record<string, unknown>;
  return rest;
}

/** Which keys are listed, for the core. */
export function keyFilterOf(filter: object | undefined): object {
  const { accountId, parent, after, metadata, overShare, ...rest } = (filter ?? {}) as Record<string, unknown>;
  // JSON would write one that is no number as if it were not given.
  if (overShare !== undefined && !Number.isFinite(overShare)) throw invalid("invalid_text", "overShare", overShare);
  return { ...rest, overShare, metadata: metadata === undefined ? undefined : objectOf(metadata), accountId: idOf("accountId", accountId), parent: idOf("parent", parent), after: idOf("after", after) };
}

function idOf(name: string, id: unknown): string | undefined {
  if (id === undefined || id === null) return undefined;
  const text = idText(id);
  if (text === undefined) throw invalid("invalid_text", name, id);
  return text;
}

/** The only member of the filter, its value as text. */
export function revokeFilterOf(filter: RevokeAllFilter): object {
  const given = Object.entries(filter ?? {}).filter(([, value]) => value !== undefined && value !== null);
  const [[name, value] = ["", undefined]] = given;
  const id = idText(value);
  if (given.length !== 1 || id === undefined || !["accountId", "parent", "delegatedBy"].includes(name)) {
    throw new AgentKeyError("invalid_text", "Invalid filter: give one of accountId, parent and delegatedBy");
  }
  return { [name]: id };
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

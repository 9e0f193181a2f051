import type { KeyId, KeyLimit } from "./types.js";

/** A key's row, without its secret. */
export interface KeyRecord<Id extends KeyId = number> {
  id: Id;
  accountId: string;
  userId: string | null;
  name: string;
  scopes: string[] | null;
  budgetCents: number | null;
  budgetUsedCents: number;
  budgetReservedCents: number;
  budgetRemainingCents: number | null;
  budgetPeriod: string | null;
  /** ISO 8601, by the database's clock, as all times here. */
  budgetResetAt: string | null;
  expiresAt: string | null;
  delegatedBy: string | null;
  /** Only of a client with `rounding: "exact"`. */
  budgetUsedMicrocents?: number;
  budgetRemainingMicrocents?: number;
  /** Why `validate` refuses the key; `null` of a live one. Its ancestors count. */
  reason: "revoked" | "disabled" | "expired" | "budget_exceeded" | null;
  /** What it may spend in other periods beside its budget. */
  limits: LimitState[];
  /** The beginning of the secret, to tell keys apart. */
  keyPrefix: string;
  parentId: Id | null;
  externalSubject: string | null;
  createdAt: string | null;
  /** To about a minute. */
  lastUsedAt: string | null;
  /** Since when it is switched off. */
  disabledAt: string | null;
  revokedAt: string | null;
  /** Until when the secret before its last rotation counts; `null` if none does. */
  previousExpiresAt: string | null;
  /** What the application keeps with it. What no reader of ours takes is a text. */
  metadata: Record<string, unknown> | string | null;
}

/** One of a key's limits, and what is used of it. */
export interface LimitState {
  cents: number;
  /** `null` is once for life. */
  period: string | null;
  whenExceeded: "refuse" | "disable";
  usedCents: number;
  reservedCents: number;
  /** Never below 0. */
  remainingCents: number;
  resetsAt: string | null;
}

/** Which keys are listed. */
export interface KeyFilter {
  accountId?: number | string;
  /** Only the children of this key. */
  parent?: number | string;
  /** Only keys that this human authorised. */
  delegatedBy?: string;
  /** What became of the key itself, whatever its ancestors and its budget. */
  state?: "live" | "revoked" | "disabled" | "expired";
  /** Only keys whose scopes name this one. What is granted by `admin`, or by having no scopes set, is not looked at. */
  scope?: string;
  /** Only keys whose metadata contains this. */
  metadata?: Record<string, unknown>;
  /** Only keys that have used at least this share of their budget in this period: above 0, 1 at most. */
  overShare?: number;
  /** Only keys after the one of this id: the last that was read, to go on from there. */
  after?: number | string;
  /** At most 1,000. Default 100. */
  limit?: number;
}

/** What is changed of a key. What is not given stays as it is; `null` is a value. */
export interface KeyUpdate {
  name?: string;
  /** `null`: everything that its parent may do. */
  scopes?: readonly string[] | null;
  /** In cents; `null` is no budget. What is used and held stays. */
  budgetCents?: number | null;
  /** A new period begins now, and what is used counts in it. `null`: one budget for life. */
  budgetPeriod?: string | null;
  /** In place of the limits that it had; one of the same period goes on. A key that has children gets no more than it had before them. */
  limits?: readonly KeyLimit[];
  /** From now on: `30m`, `12h`, `7d`, `1mo`. `null` is for ever. */
  expiresIn?: string | null;
  /** In place of what the key kept; `null` is nothing. */
  metadata?: Record<string, unknown> | null;
}

/** What a charge of a key would meet. */
export interface Explanation<Id extends KeyId = number> {
  /** Whether the charge would pass. */
  allowed: boolean;
  /** Why not; `null` if it would. */
  reason: "invalid_key" | "budget_exceeded" | "invalid_cost" | null;
  /** The key whose budget or state refuses it. */
  limitKeyId: Id | null;
  /** Whether every key of the chain is live: `validate` and `reserve` refuse any other. */
  live: boolean;
  /**
   * The key, its ancestors and the limits of each, what binds first: keys that are revoked or gone, then those that are switched off or expired,
   * then the others, the one with the least room first. Empty if there is no such key.
   */
  limits: ExplainedLimit<Id>[];
}

/** A key of a chain and its budget, or one of its limits. */
export interface ExplainedLimit<Id extends KeyId = number> {
  /** `null` if the row names an ancestor that cannot be. */
  keyId: Id | null;
  /** `null` if there is no such key. */
  name: string | null;
  /** Whether this key is live; its budget does not count. */
  live: boolean;
  /** Why not; `invalid` of one that is not there. */
  reason: "invalid" | "revoked" | "disabled" | "expired" | null;
  budgetCents: number | null;
  budgetUsedCents: number;
  budgetReservedCents: number;
  budgetRemainingCents: number | null;
  budgetPeriod: string | null;
  budgetResetAt: string | null;
  /** Of one of the key's limits: what a charge does that would pass it. */
  whenExceeded?: "refuse" | "disable";
  /** Only of a client with `rounding: "exact"`, as all micro-cents here. */
  budgetUsedMicrocents?: number;
  budgetReservedMicrocents?: number;
  budgetRemainingMicrocents?: number;
  /** The open reservations that hold of the budget: the key's own and those of its descendants. */
  holds: {
    count: number;
    amountCents: number;
    /** What of it a charge gets back in whose way it is: the time of these reservations is over. */
    recoverableCents: number;
    amountMicrocents?: number;
    recoverableMicrocents?: number;
    /** Ten at most. */
    oldest: Hold<Id>[];
  };
}

/** An open reservation. */
export interface Hold<Id extends KeyId = number> {
  reservationId: string;
  /** The key that made it. */
  keyId: Id;
  amountCents: number;
  amountMicrocents?: number;
  createdAt: string;
  expiresAt: string;
  /** Whether its time is over. */
  expired: boolean;
}

/** How a key is rotated. */
export interface RotateOptions {
  /** How long the secret before counts: `30s`, `24h`, `7d`, or a number of seconds. 0: it stops at once. Default `24h`. */
  grace?: string | number;
  /**
   * A second rotation of the key under it, because the answer of the first one was lost, replaces the secret that the first
   * one made. The secret before stays what it was.
   */
  idempotencyKey?: string;
}

/** What `rotate` answers. */
export type RotateResult<Id extends KeyId = number> =
  | {
      success: true;
      /** The secret, returned only here. */
      key: string;
      /** The key's row, which is the same as before. */
      id: Id;
      /** ISO 8601: until when the secret before counts; `null` if it counts no more. */
      previousExpiresAt: string | null;
      reason?: undefined;
    }
  | { success: false; reason: "invalid_key" | "revoked" | "idempotency_conflict"; key?: undefined };

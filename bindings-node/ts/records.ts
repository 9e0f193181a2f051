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
  /** By how much the budget is raised now: part of `budgetCents`. `null` if it is not. */
  budgetBoostCents: number | null;
  /** Until when. */
  budgetBoostUntil: string | null;
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
  /** By how much the budget is raised now: part of `budgetCents`. `null` if it is not. */
  budgetBoostCents: number | null;
  /** Until when. */
  budgetBoostUntil: string | null;
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

/** What a key asks for. */
export interface IncreaseRequest {
  /** How much more, in cents. */
  cents: number;
  /** How long it is to last, from when it is approved: `90s`, `2h`, `1d`, or a number of seconds. */
  for: string | number;
  /** Why, for whoever decides. */
  reason?: string;
  /** A second request under it is the first one, also once that is decided. */
  idempotencyKey?: string;
}

/** Whether a budget is raised. */
export interface IncreaseDecision {
  approve: boolean;
  /** By how much, in cents. Default: as much as was asked for. */
  cents?: number;
  /** For how long from now: `90s`, `2h`, `1d`, or a number of seconds. Default: as long as was asked for. */
  expiresIn?: string | number;
  /** Who decides, for the ledger. */
  by: string;
  /** The id of the key that decides: it must be a live ancestor of the one that asked. Default: the application decides. */
  decider?: number | string;
}

/** Which requests for more budget are listed. */
export interface IncreaseFilter {
  keyId?: number | string;
  accountId?: number | string;
  /** Only of this key and of those that descend from it. */
  within?: number | string;
  state?: "pending" | "approved" | "denied";
  /** Only requests before the one of this id: the last that was read, to go on from there. */
  before?: number;
  /** At most 1,000. Default 100. */
  limit?: number;
}

/** A request for more budget, and what became of it. */
export interface Increase<Id extends KeyId = number> {
  id: number;
  /** The key that asks. */
  keyId: Id;
  accountId: string | null;
  state: "pending" | "approved" | "denied";
  cents: number;
  reason: string | null;
  forSeconds: number;
  requestedAt: string;
  decidedAt: string | null;
  decidedBy: string | null;
  /** The key that decided; `null` if the application did. */
  decidedByKeyId: Id | null;
  grantedCents: number | null;
  grantedUntil: string | null;
}

type IncreaseRecorded<Id extends KeyId> = {
  success: true;
  /** The request as it is now. */
  request: Increase<Id>;
  /** Whether it was recorded earlier, by the same call. */
  replayed?: boolean;
  reason?: undefined;
};

/** What `requestIncrease` answers. */
export type IncreaseResult<Id extends KeyId = number> =
  | IncreaseRecorded<Id>
  | {
      success: false;
      reason: "invalid_key" | "revoked" | "disabled" | "expired" | "no_budget" | "already_pending" | "idempotency_conflict";
      /** The request that stands in the way. */
      request?: Increase<Id>;
    };

/** What `decideIncrease` answers. */
export type DecisionResult<Id extends KeyId = number> =
  | IncreaseRecorded<Id>
  | {
      success: false;
      reason: "unknown_request" | "already_decided" | "revoked" | "expired" | "no_budget" | "exceeds_ancestor";
      /** The request as it stands. */
      request?: Increase<Id>;
      /** The ancestor whose budget is too small. */
      limitKeyId?: Id;
    };

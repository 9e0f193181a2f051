/** Whatever runs SQL in node-postgres's shape: a pool, a client within a transaction, PGlite. */
export interface Queryable {
  query(text: string, values?: any[]): PromiseLike<unknown>;
}

interface CommonOptions {
  /** The keys table, `table` or `schema.table`. Default `sdk_api_keys`. */
  tableName?: string;
  /** What new keys start with. Default `ak_`. */
  keyPrefix?: string;
  /**
   * `checksum`: new keys end in one, so that scanners know them, and a mistyped one costs no query. Keys of either form always
   * work. Default `plain`, as the original makes them.
   */
  keyFormat?: "plain" | "checksum";
  /** How long keys live that are created without `expiresIn`: `30d`. Default for ever. */
  defaultExpiresIn?: string;
  /** A scope such as `files:*` grants all that begins with `files:`. Default false: it is a scope as any other. */
  wildcards?: boolean;
  /** The scopes that new keys may have. Default any. */
  validScopes?: readonly string[] | null;
  /** Which budget periods new keys may have: only `day` and `month` by default, or all five. */
  budgetPeriods?: "day-and-month" | "all";
  /** Where the budget periods of new keys begin: at their creation by default, or with the calendar in UTC. */
  align?: "creation" | "calendar";
  /**
   * Names the statements, so that node-postgres prepares them once a connection: planning each anew takes longer than
   * running it. `auto`, the default: on a pool of node-postgres whose `query` is its own, until a statement turns out not
   * to be prepared where it arrives, behind a pooler; it is sent again then, and none is named any more.
   */
  preparedStatements?: boolean | "auto";
  /**
   * Writes every charge and reservation into the ledger, not only those with an idempotency key. All clients of a table
   * should agree. Default false.
   */
  ledger?: boolean;
  /**
   * The shares of a budget at which an alarm is written into the ledger, such as `[0.5, 0.8, 1]`: once for each key, budget,
   * period and threshold, in the statement that crosses it. All clients of a table should agree. Default none.
   */
  thresholds?: readonly number[];
  /**
   * Raises an alarm this many seconds before a key expires, once for each key and expiry. It is raised by whoever reads alarms
   * (`onEvent`, `deliver`, `events({ after, alarms: true })`); never on a single client of node-postgres. Default none.
   */
  expiryNoticeSeconds?: number;
  /** Raises an alarm when a reservation is still open after this many seconds, once for each; as above. Default none. */
  staleHoldSeconds?: number;
  /** Whether a fraction of a cent counts as a whole one, or costs are exact to a millionth of a cent. Default `up`. */
  rounding?: "up" | "exact";
  /** How long a call may take, waiting included. Default 10 seconds. */
  timeoutMs?: number;
  /**
   * How long `settle` and `release` are repeated through faults, a database that is restarted included. Never shorter than
   * `timeoutMs`. Default 60 seconds.
   */
  settleTimeoutMs?: number;
  /** How long `close` waits for requests that a middleware let pass. Default 10 seconds. */
  closeTimeoutMs?: number;
  /**
   * Hears of each fault that nobody waits for, after it was logged: what a request cost and could not be recorded, with
   * the key, the reservation and the amount; that `last_used_at` could not be written; that `onEvent` failed. What it throws
   * is logged.
   */
  onError?: (message: string, cause?: unknown) => void;
  /** How many calls may wait at once; more are refused with `overloaded`. Default 100,000. */
  maxWaiting?: number;
  /** The most that one charge, reserve or settle may cost, in cents: more is an `invalid_cost`. Default no limit. */
  maxCostCents?: number;
  /**
   * `last_used_at` is written at most once per key and this many seconds; `null`: never. Default 60. On a single client of
   * node-postgres it is never written: a transaction of the caller's may be open there.
   */
  touchIntervalSeconds?: number | null;
  /**
   * So many rows of keys are remembered (about 300 bytes each): look-ups of several keys then ask the database only which of
   * them changed. 0 is none, and so it is on a single client of node-postgres. Default 10,000.
   */
  rememberedKeys?: number;
}

/** Options of `new AgentKey`: a pool of the caller's, or a URL for a pool of its own. */
export type AgentKeyOptions = CommonOptions &
  ({ pool: Queryable; connectionString?: undefined } | { connectionString: string; pool?: undefined });

/** How often a budget starts afresh; a window is so many minutes, hours or days. All but `day` and `month` need the option `budgetPeriods: "all"`. */
export type BudgetPeriod = "hour" | "day" | "week" | "month" | "year" | `${number}${"m" | "h" | "d"}`;

/** What may be spent in a period, beside the budget. */
export interface KeyLimit {
  cents: number;
  /** How often it starts afresh; none given is once for life. No two limits of a key have the same. */
  period?: BudgetPeriod | (string & {}) | null;
  /** What a charge does that would pass it. `disable`: it is refused, and the key switched off until somebody enables it. Default `refuse`. */
  whenExceeded?: "refuse" | "disable" | null;
}

/** What a new key may do and spend. */
export interface CreateKeyOptions {
  /** Whose key it is. A child's is by default its parent's. */
  accountId?: string | number | null;
  /** A user within the account. */
  userId?: string | null;
  /** What it may do; none given is everything, an empty list nothing. */
  scopes?: readonly string[] | null;
  /** Its budget in cents, of a period or for life. */
  budgetCents?: number | null;
  /** How often the budget starts afresh; none given is one budget for life. */
  budgetPeriod?: BudgetPeriod | (string & {}) | null;
  /** What may be spent in other periods beside the budget, six at most. Every charge draws on each of them, too. */
  limits?: readonly KeyLimit[] | null;
  /** Time to live: `30m`, `12h`, `7d`, `1mo`. None given is for ever. */
  expiresIn?: string | null;
  /** The human who authorises the key. */
  delegatedBy?: string | null;
  /** A name for people. Default `default`. */
  name?: string | null;
  /** What the application keeps with it: a JSON object of at most 16 KiB. */
  metadata?: Record<string, unknown> | null;
  /**
   * The key that this one draws on and dies with: its id, its raw key, or the subject of its row. Its scopes and expiry
   * bound those of the child, and are the child's where it names none; so are its account, user and human.
   */
  parent?: number | string | { subject: string } | null;
}

/** The type of the keys' ids: a number where the column is of an integer type, otherwise text (`AgentKey<string>`). */
export type KeyId = number | string;

/** A new key. */
export interface CreateKeyResult<Id extends KeyId = number> {
  /** The raw key, returned only here. */
  key: string;
  id: Id;
  scopes: string[] | null;
  budgetCents: number | null;
  budgetPeriod: string | null;
  /** ISO 8601, by the database's clock. */
  expiresAt: string | null;
}

/** What the row of an external subject is created with. */
export interface EnsureSubjectOptions extends Omit<CreateKeyOptions, "accountId"> {
  /** Default the subject. */
  accountId?: string | number;
}

/** A live key. */
export interface ValidateResult<Id extends KeyId = number> {
  valid: true;
  id: Id;
  /** As in the original, a number all the same where the column is INTEGER, and `null` where it is NULL. */
  accountId: string;
  userId: string | null;
  /** What it may do; `null` is everything. */
  scopes: string[] | null;
  budgetCents: number | null;
  /** Used in this period. */
  budgetUsedCents: number;
  /** What open reservations hold. A double's results need not say it. */
  budgetReservedCents?: number;
  /** Never below 0. */
  budgetRemainingCents: number | null;
  budgetPeriod: string | null;
  /** ISO 8601, in the future. */
  budgetResetAt: string | null;
  /** ISO 8601. */
  expiresAt: string | null;
  /** The human who authorised the key. */
  delegatedBy: string | null;
  name: string;
  /**
   * Behind `agentKeyMiddleware`: says what this request costs. Several amounts add up. They are recorded when the response
   * has ended, in place of what `cost` would say, and of the estimate.
   */
  charge?: (amount: Amount) => void;
}

/** A refused key. */
export interface ValidateFailure<Id extends KeyId = number> {
  valid: false;
  reason: "invalid" | "revoked" | "disabled" | "expired" | "budget_exceeded";
  /** The budget that is used up, where that is the reason. */
  limit?: {
    keyId: Id;
    budgetCents: number;
    usedCents: number;
    reservedCents: number;
    /** ISO 8601. */
    resetsAt: string | null;
    /** Of one of the key's `limits`, as `whenExceeded`. */
    period?: string;
    whenExceeded?: "refuse" | "disable";
  };
}

/** A budget after an operation. */
export interface Balance {
  /** Used in this period; a started cent counts. */
  budgetUsedCents: number;
  /** Never below 0; `null` without a budget. */
  budgetRemainingCents: number | null;
  /** In millionths of a cent, with `rounding: "exact"`. */
  budgetUsedMicrocents?: number;
  /** In millionths of a cent, with `rounding: "exact"`. */
  budgetRemainingMicrocents?: number;
}

/** What became of a charge. */
export type TrackUsageResult =
  | (Balance & {
      success: true;
      reason?: undefined;
      /** The charge was recorded past the budget (`overrun: "record"`). */
      overBudget?: true;
      /** By how much the use is above the budget then. */
      overageCents?: number;
      /** It was recorded earlier, under the same idempotency key. */
      replayed?: true;
    })
  /** It cost nothing. */
  | { success: true; budgetUsedCents?: undefined; budgetRemainingCents?: undefined; reason?: undefined }
  | {
      success: false;
      reason: "invalid_cost" | "invalid_key" | "budget_exceeded" | "idempotency_conflict";
      budgetUsedCents?: undefined;
      budgetRemainingCents?: undefined;
    };

/** What was spent, in one of three forms. */
export interface Spent {
  /** In cents; a fraction of a cent is rounded up, unless the client is exact. */
  costCents?: number;
  /** In millionths of a cent, a whole number. */
  costMicrocents?: number;
  /** In US dollars: a number, or a decimal text such as `"0.00042"` or `"4.2e-4"`. Exact to a millionth of a cent. */
  costUsd?: number | string;
}

/** An amount in a middleware: a number of cents, or US dollars, cents or millionths of a cent by name. */
export type Amount = number | { usd: number | string } | { cents: number } | { microcents: number };

/** How a request ended. */
export interface RequestEnd {
  /** The status that was sent; `undefined` if none was. */
  status: number | undefined;
  /** Whether the whole response was sent: false of one that its client left, or that broke off. */
  completed: boolean;
  /** The caller's key. */
  grant: ValidateResult;
}

/** What a call cost. */
export interface Usage extends Spent {
  /** A second charge of the key under this id answers what the first one did, and moves nothing. */
  idempotencyKey?: string;
  /** What happens if it does not fit: it is refused (default), or recorded all the same, for it is spent already. */
  overrun?: "reject" | "record";
  /** Kept in the ledger: a JSON object. */
  metadata?: Record<string, unknown>;
}

/** What is to be held. */
export interface ReserveOptions extends Spent {
  /** How long: `30s`, `10m`, `2h`; between a second and 30 days. Default `10m`. */
  ttl?: string;
  /** What it is worth if nobody ends it in time: `release` (default) gives it back, `settle` records it as spent. */
  ifExpired?: "release" | "settle";
  /** The scope that the key must have. A key that lacks it holds nothing. */
  scope?: string;
  /** A second reserve of the key under this id answers the first one's reservation while that holds its amount. */
  idempotencyKey?: string;
  /** Kept with the reservation and in the ledger: a JSON object. */
  metadata?: Record<string, unknown>;
}

/** An amount that is held. */
export interface Reservation<Id extends KeyId = number> extends Balance {
  success: true;
  reason?: undefined;
  /** Names it to `settle`, `release` and `extend`. */
  reservationId: string;
  /** ISO 8601: when it gives its amount back by itself. */
  expiresAt: string;
  /** What open reservations hold, in cents; a started cent counts. */
  budgetReservedCents: number;
  /** It was made earlier, under the same idempotency key, and holds its amount still. */
  replayed?: true;
  /** The key as it was before the amount was held: what `validate` would have answered. */
  grant: ValidateResult<Id>;
}

/** What `reserve` answers. */
export type ReserveResult<Id extends KeyId = number> =
  | Reservation<Id>
  | {
      success: false;
      reason:
        | "invalid_cost"
        | "invalid_key"
        | "revoked"
        | "disabled"
        | "expired"
        | "insufficient_scope"
        | "budget_exceeded"
        | "idempotency_conflict"
        | "unknown_reservation";
      /** The budget that has no room, where that is the reason. */
      limit?: ValidateFailure<Id>["limit"];
      reservationId?: undefined;
    }
  /** The reservation that was made under the same idempotency key was settled: with so much. */
  | {
      success: false;
      reason: "already_settled";
      reservationId: string;
      costCents: number;
      /** With `rounding: "exact"`. */
      costMicrocents?: number;
      limit?: undefined;
    };

/** What `settle` answers. */
export type SettleResult =
  | (Balance & {
      success: true;
      reason?: undefined;
      costCents: number;
      /** By how much that is more than was held. */
      overageCents: number;
      /** With `rounding: "exact"`. */
      costMicrocents?: number;
      /** It was settled earlier: this is what that did. */
      replayed?: true;
    })
  | { success: false; reason: "invalid_cost" | "unknown_reservation" | "released" }
  /** A total would not fit its column: nothing was recorded of so much, and the amount is held still. */
  | { success: false; reason: "unrecordable"; costCents: number; costMicrocents?: number };

/** What `release` answers: whether it gave an amount back. */
export type ReleaseResult = { success: true; released: boolean } | { success: false; reason: "unknown_reservation" };

/** What `extend` answers. */
export type ExtendResult =
  | { success: true; expiresAt: string }
  | { success: false; reason: "unknown_reservation" | "settled" | "released" | "expired" };

/** Which keys `revokeAll` revokes: give one. */
export type RevokeAllFilter =
  | { accountId: number | string; parent?: undefined; delegatedBy?: undefined }
  | { parent: number | string; accountId?: undefined; delegatedBy?: undefined }
  | { delegatedBy: string; accountId?: undefined; parent?: undefined };

/** Which ledger entries are read. */
export interface EventFilter {
  keyId?: number | string;
  accountId?: number | string;
  kind?: string;
  /** Only alarms: what somebody should hear of. */
  alarms?: boolean;
  /** Only entries before the one of this id: the last that was read, to go on from there. */
  before?: number;
  /** Only entries after the one of this id, the oldest first: a cursor, which skips none. 0 is all. */
  after?: number;
  /** At most 1,000. Default 100. */
  limit?: number;
}

/** Where alarms are delivered to. */
export interface WebhookOptions {
  /** What its deliveries are kept under in the database. */
  name: string;
  url: string;
  /** Each `whsec_` and 24 to 64 bytes in base64. While there are two, both sign: a receiver goes on with either. */
  secrets: readonly string[];
  /** How long the receiver may take. Default, and most, 15 seconds. */
  timeoutMs?: number;
}

/** Which deliveries are shown. */
export interface DeliveryFilter {
  /** Only of the webhook of this name. */
  webhook?: string;
  /** Only those that are not tried again. */
  dead?: boolean;
  /** At most 1,000. Default 100. */
  limit?: number;
}

/** A delivery that is not done. */
export interface OpenDelivery<Id extends KeyId = number> {
  webhook: string;
  eventId: number;
  keyId: Id;
  kind: string;
  attempts: number;
  /** When it is tried again; `null` if it is dead. */
  nextAt: string | null;
  deadAt: string | null;
  /** Why the last attempt failed. */
  error: string | null;
}

/** An entry of the ledger. Amounts are millionths of a cent. */
export interface LedgerEvent<Id extends KeyId = number> {
  id: number;
  /** ISO 8601, by the database's clock. */
  at: string;
  keyId: Id;
  accountId: string | null;
  kind:
    | "create"
    | "update"
    | "disable"
    | "enable"
    | "rotate"
    | "revoke"
    | "charge"
    | "refund"
    | "reserve"
    | "settle"
    | "release"
    | "expire"
    | "reset"
    | "threshold"
    | "expiring"
    | "stale_hold"
    | "request_increase"
    | "approve_increase"
    | "deny_increase"
    | (string & {});
  amountMicrocents: number | null;
  usedAfterMicrocents: number | null;
  reservedAfterMicrocents: number | null;
  remainingAfterMicrocents: number | null;
  idempotencyKey: string | null;
  reservationId: string | null;
  /** The descendant that drew on this key; `null` if it was the key itself. */
  viaKeyId: Id | null;
  /** The human who authorised a key that was created. */
  actor: string | null;
  metadata: Record<string, unknown> | null;
}

/** What a key spent is asked by. */
export interface UsageFilter {
  keyId: number | string;
  /** ISO 8601. */
  from?: string;
  /** ISO 8601, excluded. */
  to?: string;
  /** Default `day`. */
  by?: "hour" | "day" | "week" | "month" | "year";
}

/** What a key and its descendants spent in a period. */
export interface UsageOfPeriod {
  /** ISO 8601: when it begins. */
  from: string;
  spentMicrocents: number;
  charges: number;
  /** Whether the ledger knows all that was spent in it: charges with an idempotency key, and with `ledger: true` all. */
  complete: boolean;
}

/** A key whose counters are not what the ledger says. */
export interface Discrepancy<Id extends KeyId = number> {
  keyId: Id;
  usedMicrocents: number;
  ledgerMicrocents: number;
  reservedMicrocents: number;
  heldMicrocents: number;
}

/** Counters for watching a client, since it was made. Nothing in them names a key. */
export interface Stats {
  /** Calls that wait or are under way. */
  pending: number;
  /** Statements sent. */
  statements: number;
  /** Statements that were tried again. */
  retries: number;
  /** How often a row that calls needed was found locked by somebody else. */
  busyRows: number;
  /** Statements whose callers' time was over before the database answered. */
  givenUpStatements: number;
  /** Background writes of `last_used_at` that failed. They fail no call. */
  failedTouches: number;
  /** Keys looked up whose remembered row the database found unchanged. */
  unchangedKeys: number;
  /** What became of calls. */
  calls: CallCount[];
  /** Statements by what they are for. Those that were never sent are left out. */
  families: FamilyStats[];
}

/** How many calls of one operation came to one end. */
export interface CallCount {
  /** What was asked for, the same name in every language: `validate`, `track_usage`, `reserve`. */
  operation: string;
  outcome: "success" | "refused" | "error";
  /** The reason of a refusal, the code of an error. */
  reason: string | null;
  count: number;
}

/** Statements of one family. */
export interface FamilyStats {
  /**
   * `charge` are plain charges, `spend` other charges and reserves, `settle` ends of reservations; `resolve` finds keys by
   * their ids or former secrets, `touch` writes `last_used_at`.
   */
  family: "validate" | "charge" | "spend" | "settle" | "resolve" | "admin" | "touch" | "catalogue" | (string & {});
  /** How many calls shared a statement. */
  batchSizes: Histogram;
  /** How long a call waited for each of its statements until it was sent. In microseconds. */
  waitMicros: Histogram;
  /** How long a statement took, from when it was sent, whatever became of it. In microseconds. */
  statementMicros: Histogram;
}

/** How values are spread. */
export interface Histogram {
  /** Upper bounds, included, in rising order. */
  bounds: number[];
  /** How many values each bucket has: those up to its bound and above the one before. The last one has no bound. */
  counts: number[];
  /** All values together. */
  sum: number;
}

/** Whatever runs SQL in node-postgres's shape: a pool, a client within a transaction, PGlite. */
export interface Queryable {
  query(text: string, values?: any[]): PromiseLike<unknown>;
}

interface CommonOptions {
  /** The keys table, `table` or `schema.table`. Default `sdk_api_keys`. */
  tableName?: string;
  /** What new keys start with. Default `ak_`. */
  keyPrefix?: string;
  /** The scopes that new keys may have. Default any. */
  validScopes?: readonly string[] | null;
  /** Which budget periods new keys may have: only `day` and `month` by default, or all five. */
  budgetPeriods?: "day-and-month" | "all";
  /** Where the budget periods of new keys begin: at their creation by default, or with the calendar in UTC. */
  align?: "creation" | "calendar";
  /** How long a call may take, waiting included. Default 10 seconds. */
  timeoutMs?: number;
  /** How many calls may wait at once; more are refused with `overloaded`. Default 100,000. */
  maxWaiting?: number;
  /** `last_used_at` is written at most once per key and this many seconds. Default 60. */
  touchIntervalSeconds?: number;
}

/** Options of `new AgentKey`: a pool of the caller's, or a URL for a pool of its own. */
export type AgentKeyOptions = CommonOptions &
  ({ pool: Queryable; connectionString?: undefined } | { connectionString: string; pool?: undefined });

/** How often a budget starts afresh. `hour`, `week` and `year` need the option `budgetPeriods: "all"`. */
export type BudgetPeriod = "hour" | "day" | "week" | "month" | "year";

/** What a new key may do and spend. */
export interface CreateKeyOptions {
  /** Whose key it is. */
  accountId: string | number;
  /** A user within the account. */
  userId?: string | null;
  /** What it may do; none given is everything, an empty list nothing. */
  scopes?: readonly string[] | null;
  /** Its budget in cents, of a period or for life. */
  budgetCents?: number | null;
  /** How often the budget starts afresh; none given is one budget for life. */
  budgetPeriod?: BudgetPeriod | (string & {}) | null;
  /** Time to live: `30m`, `12h`, `7d`, `1mo`. None given is for ever. */
  expiresIn?: string | null;
  /** The human who authorises the key. */
  delegatedBy?: string | null;
  /** A name for people. Default `default`. */
  name?: string | null;
}

/** A new key. */
export interface CreateKeyResult {
  /** The raw key, returned only here. */
  key: string;
  /** A number where the column is of an integer type. */
  id: number | string;
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
export interface ValidateResult {
  valid: true;
  /** A number where the column is of an integer type. */
  id: number | string;
  /** A number where the column is INTEGER. */
  accountId: string | number | null;
  userId: string | null;
  /** What it may do; `null` is everything. */
  scopes: string[] | null;
  budgetCents: number | null;
  /** Used in this period. */
  budgetUsedCents: number;
  /** What open reservations hold. */
  budgetReservedCents: number;
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
}

/** A refused key. */
export interface ValidateFailure {
  valid: false;
  reason: "invalid" | "revoked" | "disabled" | "expired" | "budget_exceeded";
  /** The budget that is used up, where that is the reason. */
  limit?: {
    keyId: number | string;
    budgetCents: number;
    usedCents: number;
    reservedCents: number;
    /** ISO 8601. */
    resetsAt: string | null;
  };
}

/** What became of a charge. */
export type TrackUsageResult =
  | { success: true; budgetUsedCents: number; budgetRemainingCents: number | null; reason?: undefined }
  /** It cost nothing. */
  | { success: true; budgetUsedCents?: undefined; budgetRemainingCents?: undefined; reason?: undefined }
  | {
      success: false;
      reason: "invalid_cost" | "invalid_key" | "budget_exceeded";
      budgetUsedCents?: undefined;
      budgetRemainingCents?: undefined;
    };

/** What a call cost. */
export interface Usage {
  /** In cents; a fraction of a cent is rounded up. */
  costCents: number;
}

/** Counters for watching a client. */
export interface Stats {
  /** Calls that wait or are under way. */
  pending: number;
  /** Statements sent. */
  statements: number;
  /** Statements that were tried again. */
  retries: number;
  /** Background writes of `last_used_at` that failed. They fail no call. */
  failedTouches: number;
}

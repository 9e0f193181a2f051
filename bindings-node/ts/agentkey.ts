import * as native from "../native/native.js";
import { type Delivery, Follower, post, webhookOf } from "./alarms.js";
import { Driver, type Query } from "./driver.js";
import { logFault } from "./faults.js";
import { AgentKeyError, fromNative } from "./errors.js";
import {
  changesOf,
  filterOf,
  idText,
  isPlain,
  keyFilterOf,
  keySpec,
  lookedUp,
  newSubject,
  rawKeyOf,
  revokeFilterOf,
  decisionOf,
  increaseFilterOf,
  increaseId,
  increaseOf,
  rotationOf,
  scopeList,
  shown,
  spendingOf,
  usageFilterOf,
} from "./input.js";
import { flag, type Names, onlyKnown, optionalCount, optionalFlag, optionalFunction, optionalNumbers, optionalText, wrong } from "./options.js";
import { clearTimer, setTimer } from "./outside.js";
import { connecting, ownPool, type OwnPool, Preparing } from "./pool.js";
import type {
  DecisionResult,
  Explanation,
  Increase,
  IncreaseDecision,
  IncreaseFilter,
  IncreaseRequest,
  IncreaseResult,
  KeyFilter,
  KeyRecord,
  KeyUpdate,
  RotateOptions,
  RotateResult,
} from "./records.js";
import type {
  AgentKeyOptions,
  CreateKeyOptions,
  CreateKeyResult,
  DeliveryFilter,
  Discrepancy,
  EnsureSubjectOptions,
  EventFilter,
  ExtendResult,
  KeyId,
  LedgerEvent,
  OpenDelivery,
  ReleaseResult,
  ReserveOptions,
  ReserveResult,
  RevokeAllFilter,
  SettleResult,
  Spent,
  Stats,
  TrackUsageResult,
  Usage,
  UsageFilter,
  UsageOfPeriod,
  ValidateFailure,
  ValidateResult,
  WebhookOptions,
} from "./types.js";

/** The way of our own doors: a call whose answer the core takes itself. */
export const carry = Symbol("carry");

/** A request that passed one of our doors, and whose end `close` waits for. */
export const admitted = Symbol("admitted");

/** A fault that nobody waits for. */
export const report = Symbol("report");

/** Lets a function see every call: `agentkey/otel`. */
export const observe = Symbol("observe");

/**
 * Sees a call: what is asked for, how to make the call, and what with, once it is made. It answers what the call does.
 */
export type Observer = <T>(op: string, call: () => Promise<T>, members: () => object) => Promise<T>;

const NOTHING = {};
const nothing = (): object => NOTHING;

const CLOSE_TIMEOUT_MS = 10_000;

/** An account that no key has. */
const NOBODY = "\0";

/**
 * Keys on a Postgres table, on the caller's own pool. Concurrent calls share statements. Where ids are no integers, say
 * so: `new AgentKey<string>({ pool })`.
 */
export class AgentKey<Id extends KeyId = number> {
  readonly #engine: native.Engine;
  readonly #driver: Driver;
  readonly #ownPool: OwnPool | undefined;
  readonly #closeTimeoutMs: number;
  readonly #onError: AgentKeyOptions["onError"];
  /** Requests at our doors that hold an amount, or whose cost is not recorded yet. */
  readonly #admissions = new Set<Promise<void>>();
  readonly #followers = new Set<Follower<Id>>();
  #observer: Observer | undefined;

  /** Checks the options; does no I/O. */
  constructor(options: AgentKeyOptions) {
    this.#engine = makeEngine(options);
    this.#closeTimeoutMs = optionalCount("closeTimeoutMs", options.closeTimeoutMs, 0) ?? CLOSE_TIMEOUT_MS;
    this.#onError = optionalFunction("onError", options.onError);
    const { pool, preparedStatements } = options;
    const prepare = preparedStatements === "auto" ? "auto" : (optionalFlag("preparedStatements", preparedStatements) ?? "auto");
    const preparing = new Preparing(prepare, pool);
    this.#ownPool = pool === undefined ? ownPool(options.connectionString, prepare) : undefined;
    const query = this.#ownPool?.query ?? preparing.query(queryOf(pool));
    const background = (message: string, cause: unknown) => {
      logFault(message, undefined);
      this[report](message, cause);
    };
    this.#driver = new Driver(this.#engine, query, background, this.#ownPool?.connect ?? connecting(pool, preparing));
  }

  /** Any request but the two that are hot. A method converts its arguments and names it. */
  #submit<T>(op: string, members: () => object): Promise<T> {
    return this.#call(op, (engine) => engine.submit(JSON.stringify({ op, ...members() })), members);
  }

  #call<T>(op: string, submit: (engine: native.Engine) => number, members: () => object = nothing): Promise<T> {
    const observer = this.#observer;
    return observer ? observer(op, () => this.#driver.call<T>(submit), members) : this.#driver.call(submit);
  }

  /** Makes the call that a door asks for. */
  [carry](exchange: native.Exchange): Promise<unknown> {
    const op = this.#observer ? (JSON.parse(exchange.call() ?? "{}") as { method?: string }).method : undefined;
    return this.#call(op ?? "call", (engine) => engine.submitCall(exchange));
  }

  [observe](observer: Observer | undefined): void {
    this.#observer = observer;
  }

  [report](message: string, cause: unknown): void {
    try {
      this.#onError?.(message, cause);
    } catch (error) {
      console.error("agentkey: onError failed", error);
    }
  }

  [admitted](end: Promise<void>): void {
    this.#admissions.add(end);
    void end.then(() => this.#admissions.delete(end));
  }

  /** Creates the table, or adds what it lacks. Any number of processes may call it at once. */
  async migrate(): Promise<void> {
    await this.#submit("migrate", () => ({}));
  }

  /** Creates a key. */
  create(options: CreateKeyOptions): Promise<CreateKeyResult<Id>> {
    return this.#submit("create", () => ({ with: keySpec(options) }));
  }

  /** Looks a key up: what it may do and what remains of its budget, or why it is refused. */
  validate(rawKey: string): Promise<ValidateResult<Id> | ValidateFailure<Id>> {
    return this.#call("validate", (engine) => engine.validate(rawKeyOf(rawKey)));
  }

  /** The same for an external subject. */
  validateBySubject(subject: string): Promise<ValidateResult<Id> | ValidateFailure<Id>> {
    return this.#submit("validate", () => ({ subject: lookedUp(subject) }));
  }

  /** The same for the key of an id, for whoever has no secret. */
  validateById(keyId: number | string): Promise<ValidateResult<Id> | ValidateFailure<Id>> {
    return this.#submit("validate", () => ({ keyId: idText(keyId) ?? "" }));
  }

  /** Records what a call cost, if it fits the budgets of the key and its ancestors. Concurrent charges never pass them. */
  trackUsage(rawKey: string, usage: Usage): Promise<TrackUsageResult> {
    if (isPlain(usage)) return this.#call("trackUsage", (engine) => engine.charge(rawKeyOf(rawKey), usage.costCents));
    return this.#submit("trackUsage", () => ({ key: rawKeyOf(rawKey), ...spendingOf(usage) }));
  }

  /** The same for an external subject. */
  trackUsageBySubject(subject: string, usage: Usage): Promise<TrackUsageResult> {
    return this.#submit("trackUsage", () => ({ subject: lookedUp(subject), ...spendingOf(usage) }));
  }

  /** The same for the key of an id, for whoever has no secret. */
  trackUsageById(keyId: number | string, usage: Usage): Promise<TrackUsageResult> {
    return this.#submit("trackUsage", () => ({ keyId: idText(keyId) ?? "", ...spendingOf(usage) }));
  }

  /**
   * Holds an amount before a call whose cost is known only afterwards, if the budgets of the key and its ancestors have
   * room for it. `settle` or `release` ends it. Otherwise it ends by itself when its time is over.
   */
  reserve(rawKey: string, options: ReserveOptions): Promise<ReserveResult<Id>> {
    return this.#submit("reserve", () => ({ key: rawKeyOf(rawKey), ...spendingOf(options) }));
  }

  /** The same for an external subject. */
  reserveBySubject(subject: string, options: ReserveOptions): Promise<ReserveResult<Id>> {
    return this.#submit("reserve", () => ({ subject: lookedUp(subject), ...spendingOf(options) }));
  }

  /** The same for the key of an id, for whoever has no secret. */
  reserveById(keyId: number | string, options: ReserveOptions): Promise<ReserveResult<Id>> {
    return this.#submit("reserve", () => ({ keyId: idText(keyId) ?? "", ...spendingOf(options) }));
  }

  /**
   * Records what was really spent, whatever the estimate and the cap, and gives back what was held. Exactly once: a
   * second settle answers what the first one did. Repeated through faults until the call's time is over.
   */
  settle(reservationId: string, spent: Spent): Promise<SettleResult> {
    return this.#submit("settle", () => ({ reservationId: String(reservationId), ...spendingOf(spent) }));
  }

  /** Gives back what was held: nothing was spent. */
  release(reservationId: string): Promise<ReleaseResult> {
    return this.#submit("release", () => ({ reservationId: String(reservationId) }));
  }

  /** Lets a reservation live so long from now on: `30s`, `10m`, `2h`. */
  extend(reservationId: string, ttl: string): Promise<ExtendResult> {
    return this.#submit("extend", () => ({ reservationId: String(reservationId), ttl: String(ttl) }));
  }

  /**
   * Gives back what a key spent, for work that failed after it was charged: on the key and its ancestors, of no budget
   * more than is used of it in this period.
   */
  refund(keyId: number | string, refund: Omit<Usage, "overrun">): Promise<TrackUsageResult> {
    return this.#submit("refund", () => ({ keyId: idText(keyId) ?? "", ...spendingOf(refund) }));
  }

  /** Ends the reservations whose time is over; how many. Whoever finds them in the way does it too. */
  sweepReservations(): Promise<number> {
    return this.#submit("sweepReservations", () => ({}));
  }

  /** Creates, once, the row of an external identity; a second call changes nothing. */
  async ensureSubject(subject: string, options?: EnsureSubjectOptions | null): Promise<void> {
    await this.#submit("ensureSubject", () => ({ subject: newSubject(subject), with: keySpec(options) }));
  }

  /** A key's row, whatever became of it; `null` if there is no such key. */
  get(keyId: number | string): Promise<KeyRecord<Id> | null> {
    return this.#submit("get", () => ({ keyId: idText(keyId) ?? "" }));
  }

  /** Keys in the order of their ids, a page at a time: give the last id as `after` to go on. */
  list(filter: KeyFilter = {}): Promise<KeyRecord<Id>[]> {
    return this.#submit("list", () => ({ filter: keyFilterOf(filter) }));
  }

  /**
   * Changes a key, within the bounds of its parent. The next call meets the change. The key as it is after it; `null` if
   * there is no such key.
   */
  update(keyId: number | string, changes: KeyUpdate): Promise<KeyRecord<Id> | null> {
    return this.#submit("update", () => ({ keyId: idText(keyId) ?? "", with: changesOf(changes) }));
  }

  /** Switches a key off, and with it its descendants, until it is enabled again. */
  disable(keyId: number | string): Promise<KeyRecord<Id> | null> {
    return this.#submit("disable", () => ({ keyId: idText(keyId) ?? "" }));
  }

  /** Switches a key on again. */
  enable(keyId: number | string): Promise<KeyRecord<Id> | null> {
    return this.#submit("enable", () => ({ keyId: idText(keyId) ?? "" }));
  }

  /**
   * Says whether a charge of a key would pass, and if not why: every limit of its chain, what binds first, and what is held of
   * each. A key is named by its id or by its raw key. Without a cost it asks about the smallest charge. Only reads.
   */
  explain(key: number | string, cost?: Spent): Promise<Explanation<Id>> {
    return this.#submit("explain", () => ({ ...spendingOf(cost), key: idText(key) ?? "" }));
  }

  /** The same for an external subject. */
  explainBySubject(subject: string, cost?: Spent): Promise<Explanation<Id>> {
    return this.#submit("explain", () => ({ ...spendingOf(cost), subject: lookedUp(subject) }));
  }

  /**
   * Gives a key a new secret, by its id or by its raw key. The key stays the same: its budget, holds, children and history.
   * The secret before counts beside the new one for the grace; then, or at the next rotation, it stops.
   */
  rotate(key: number | string, options?: RotateOptions): Promise<RotateResult<Id>> {
    return this.#submit("rotate", () => ({ ...rotationOf(options), key: idText(key) ?? "" }));
  }

  /**
   * A key asks for more budget, by its id or by its raw key; nothing is raised until somebody decides it. A key has one open
   * request: asking for the same again answers that one.
   */
  requestIncrease(key: number | string, request: IncreaseRequest): Promise<IncreaseResult<Id>> {
    return this.#submit("requestIncrease", () => ({ key: idText(key) ?? "", with: increaseOf(request) }));
  }

  /** The same for an external subject. */
  requestIncreaseBySubject(subject: string, request: IncreaseRequest): Promise<IncreaseResult<Id>> {
    return this.#submit("requestIncrease", () => ({ subject: lookedUp(subject), with: increaseOf(request) }));
  }

  /** Requests for more budget, the newest first: give the last id as `before` to go on. */
  listIncreases(filter: IncreaseFilter = {}): Promise<Increase<Id>[]> {
    return this.#submit("listIncreases", () => ({ filter: increaseFilterOf(filter) }));
  }

  /**
   * Decides a request. An approval raises the key's budget at once, for a while, and no further than the budgets of its
   * ancestors. Of several decisions the first one stands; the others are told of it.
   */
  decideIncrease(requestId: number, decision: IncreaseDecision): Promise<DecisionResult<Id>> {
    return this.#submit("decideIncrease", () => ({ requestId: increaseId(requestId), with: decisionOf(decision) }));
  }

  /** Revokes a key, and with it its descendants; with an account only a key of that account. Whether a live key was revoked. */
  async revoke(keyId: number | string, accountId?: number | string | null): Promise<boolean> {
    const id = idText(keyId);
    const account = accountId === undefined || accountId === null ? accountId : (idText(accountId) ?? NOBODY);
    if (id === undefined || account === NOBODY) return false;
    return this.#submit("revoke", () => ({ keyId: id, accountId: account }));
  }

  /** The panic switch: revokes every live key of an account, below a parent, or that a human authorised. How many. */
  revokeAll(filter: RevokeAllFilter): Promise<number> {
    return this.#submit("revokeAll", () => ({ filter: revokeFilterOf(filter) }));
  }

  /** Ledger entries, the newest first; with `after`, the oldest first: a cursor, which skips none. */
  events(filter: EventFilter = {}): Promise<LedgerEvent<Id>[]> {
    return this.#submit("events", () => ({ filter: filterOf(filter) }));
  }

  /**
   * Calls back with each alarm as it comes, one after the other: with those after `after` first, or those from now on. Another
   * filter is for other entries. What the callback throws goes to `onError`. Ends with `close()`, of what it answers or of the
   * client. Each process that asks hears of each; who must not miss any keeps the last id, and gives it as `after`.
   */
  onEvent(callback: (event: LedgerEvent<Id>) => unknown, filter: Omit<EventFilter, "before" | "limit"> = { alarms: true }): { close(): void } {
    if (typeof callback !== "function") throw new TypeError("onEvent needs a function");
    const follower = new Follower<Id>((page) => this.events(page), callback, filter, (message, cause) => this[report](message, cause));
    this.#followers.add(follower);
    return {
      close: () => {
        follower.close();
        this.#followers.delete(follower);
      },
    };
  }

  /**
   * Delivers what is due of a webhook's alarms, signed after Standard Webhooks, and says how many attempts were made: 0 is time
   * for a pause. Any number of processes may call it: a delivery is one process's at a time. Alarms count from when a webhook
   * is first delivered to.
   */
  async deliver(webhook: WebhookOptions): Promise<number> {
    const { url, timeoutMs, known } = webhookOf(webhook);
    const claimed = await this.#submit<Delivery[]>("claimDeliveries", () => ({ webhook: known }));
    const send = async (delivery: Delivery) => {
      const end = await post(url, delivery, timeoutMs);
      const { eventId, attempt } = delivery;
      await this.#submit("endDelivery", () => ({ webhook: known.name, eventId, attempt, ...end }));
    };
    await Promise.all(claimed.map(send));
    return claimed.length;
  }

  /** Deliveries that are not done, the latest first. */
  deliveries(filter: DeliveryFilter = {}): Promise<OpenDelivery<Id>[]> {
    return this.#submit("deliveries", () => ({ filter }));
  }

  /** What a key and its descendants spent, by period of the calendar in UTC, as far as the ledger knows; each says whether that is all. */
  usage(filter: UsageFilter): Promise<UsageOfPeriod[]> {
    return this.#submit("usage", () => ({ filter: usageFilterOf(filter) }));
  }

  /** Which keys do not add up; none is good. Needs `ledger: true` in every client of the table. */
  verifyLedger(keyId?: number | string): Promise<Discrepancy<Id>[]> {
    return this.#submit("verifyLedger", () => ({ keyId: keyId === undefined ? undefined : (idText(keyId) ?? "") }));
  }

  /** Deletes ledger entries that are older; how many. What is left still adds up. */
  pruneEvents(options: { olderThanSeconds: number }): Promise<number> {
    const olderThanSeconds = options?.olderThanSeconds;
    if (!Number.isSafeInteger(olderThanSeconds) || olderThanSeconds < 0) {
      return Promise.reject(new AgentKeyError("invalid_duration", `Invalid olderThanSeconds: ${shown(olderThanSeconds)}`));
    }
    return this.#submit("pruneEvents", () => ({ olderThanSeconds }));
  }

  /** Whether the key may do `scope`: it has no restriction, it has the scope, or it is an admin. */
  hasScope(result: ValidateResult<Id>, scope: string): boolean {
    return result.valid !== (false as boolean) && this.#engine.hasScope(result.scopes ?? null, scope);
  }

  /** Whether new keys may have all of `scopes`, or which they may not. */
  validateScopes(scopes: readonly string[]): { valid: true } | { valid: false; invalid: string[] } {
    const invalid = this.#engine.invalidScopes(scopeList("Invalid scopes", scopes));
    return invalid.length === 0 ? { valid: true } : { valid: false, invalid };
  }

  /** Counters since the client was made. Nothing in them names a key. */
  stats(): Stats {
    return JSON.parse(this.#engine.stats()) as Stats;
  }

  /**
   * Waits until the requests that a middleware let pass have ended and what they cost is recorded, for
   * `closeTimeoutMs` at most. Then it refuses new calls, and waits for those under way and for the noting of last uses.
   * Ends the pool only if it is of the client's own.
   */
  async close(): Promise<void> {
    for (const follower of this.#followers) follower.close();
    if (this.#admissions.size > 0) await this.#admissionsEnd();
    await this.#driver.close();
    await this.#ownPool?.end();
  }

  async #admissionsEnd(): Promise<void> {
    const all = async () => {
      while (this.#admissions.size > 0) await Promise.all(this.#admissions);
    };
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimer(resolve, this.#closeTimeoutMs)));
    await Promise.race([all(), late]);
    clearTimer(timer);
  }
}

/** When a key with this time to live expires: `30m`, `12h`, `7d`, `1mo`. `null` is never. */
export function expiryFromDuration(duration: string | null | undefined): Date | null {
  if (duration !== undefined && duration !== null && typeof duration !== "string") {
    throw new AgentKeyError("invalid_duration", `Invalid duration: ${shown(duration)}`);
  }
  try {
    const seconds = native.secondsUntilExpiry(duration ?? null);
    return seconds === null ? null : new Date(Date.now() + seconds * 1000);
  } catch (error) {
    throw fromNative(error);
  }
}

const OPTIONS: Names<AgentKeyOptions> = {
  pool: true,
  connectionString: true,
  tableName: true,
  keyPrefix: true,
  keyFormat: true,
  defaultExpiresIn: true,
  wildcards: true,
  validScopes: true,
  budgetPeriods: true,
  align: true,
  preparedStatements: true,
  ledger: true,
  thresholds: true,
  expiryNoticeSeconds: true,
  staleHoldSeconds: true,
  rounding: true,
  timeoutMs: true,
  settleTimeoutMs: true,
  closeTimeoutMs: true,
  onError: true,
  maxWaiting: true,
  maxCostCents: true,
  touchIntervalSeconds: true,
  rememberedKeys: true,
};

function makeEngine(options: AgentKeyOptions): native.Engine {
  onlyKnown("AgentKey", options, OPTIONS);
  const budgetPeriods = options.budgetPeriods ?? "day-and-month";
  const align = options.align ?? "creation";
  if (!["day-and-month", "all"].includes(budgetPeriods)) throw wrong("budgetPeriods", budgetPeriods);
  if (!["creation", "calendar"].includes(align)) throw wrong("align", align);
  const rounding = options.rounding ?? "up";
  if (!["up", "exact"].includes(rounding)) throw wrong("rounding", rounding);
  try {
    return new native.Engine({
      tableName: optionalText("tableName", options.tableName),
      keyPrefix: optionalText("keyPrefix", options.keyPrefix),
      keyFormat: optionalText("keyFormat", options.keyFormat),
      defaultExpiresIn: optionalText("defaultExpiresIn", options.defaultExpiresIn),
      wildcards: flag("wildcards", options.wildcards),
      validScopes: options.validScopes ? scopeList("Invalid validScopes", options.validScopes) : undefined,
      allPeriods: budgetPeriods === "all",
      alignToCalendar: align === "calendar",
      timeoutMs: optionalCount("timeoutMs", options.timeoutMs, 1),
      settleTimeoutMs: optionalCount("settleTimeoutMs", options.settleTimeoutMs, 1),
      maxWaiting: optionalCount("maxWaiting", options.maxWaiting, 1),
      ledger: flag("ledger", options.ledger),
      thresholds: optionalNumbers("thresholds", options.thresholds),
      expiryNoticeSeconds: optionalCount("expiryNoticeSeconds", options.expiryNoticeSeconds, 1),
      staleHoldSeconds: optionalCount("staleHoldSeconds", options.staleHoldSeconds, 1),
      exact: rounding === "exact",
      touchIntervalSeconds: optionalCount("touchIntervalSeconds", options.touchIntervalSeconds ?? undefined, 0),
      noTouches: options.touchIntervalSeconds === null,
      singleClient: isSingleClient(options.pool),
      rememberedKeys: optionalCount("rememberedKeys", options.rememberedKeys, 0),
      maxCostCents: optionalCount("maxCostCents", options.maxCostCents, 1),
      seed: Math.floor(Math.random() * 2 ** 32),
    });
  } catch (error) {
    throw fromNative(error);
  }
}

/** The pool's own method is looked up at each call: applications wrap it to trace their queries. */
function queryOf(pool: { query: Query } | undefined): Query {
  if (typeof pool?.query !== "function") throw new TypeError("pool must have a method query(text, values)");
  return (...statement) => pool.query(...statement);
}

/** Whether this is a connection of node-postgres: the caller's transaction may be open there, and is not ours to write in. */
function isSingleClient(pool: unknown): boolean {
  const { connection, getTypeParser } = (pool ?? {}) as { connection?: unknown; getTypeParser?: unknown };
  return typeof connection === "object" && typeof getTypeParser === "function";
}

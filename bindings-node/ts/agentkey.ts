import * as native from "../native/native.js";
import { Driver, type Query } from "./driver.js";
import { AgentKeyError, fromNative } from "./errors.js";
import { costOf, idText, keySpec, lookedUp, newSubject, rawKeyOf, scopeList, shown } from "./input.js";
import { ownPool, type OwnPool } from "./pool.js";
import type {
  AgentKeyOptions,
  CreateKeyOptions,
  CreateKeyResult,
  EnsureSubjectOptions,
  Stats,
  TrackUsageResult,
  Usage,
  ValidateFailure,
  ValidateResult,
} from "./types.js";

/** Keys on a Postgres table, on the caller's own pool. Concurrent calls share statements. */
export class AgentKey {
  readonly #engine: native.Engine;
  readonly #driver: Driver;
  readonly #ownPool: OwnPool | undefined;

  /** Checks the options; does no I/O. */
  constructor(options: AgentKeyOptions) {
    this.#engine = makeEngine(options);
    this.#ownPool = options.pool === undefined ? ownPool(options.connectionString) : undefined;
    this.#driver = new Driver(this.#engine, this.#ownPool?.query ?? queryOf(options.pool));
  }

  /** Creates the table, or adds what it lacks. Any number of processes may call it at once. */
  async migrate(): Promise<void> {
    await this.#driver.call((engine) => engine.migrate());
  }

  /** Creates a key. */
  create(options: CreateKeyOptions): Promise<CreateKeyResult> {
    return this.#driver.call((engine) => engine.create(keySpec(options)));
  }

  /** Looks a key up: what it may do and what remains of its budget, or why it is refused. */
  validate(rawKey: string): Promise<ValidateResult | ValidateFailure> {
    return this.#driver.call((engine) => engine.validate(rawKeyOf(rawKey)));
  }

  /** The same for an external subject. */
  validateBySubject(subject: string): Promise<ValidateResult | ValidateFailure> {
    return this.#driver.call((engine) => engine.validateSubject(lookedUp(subject)));
  }

  /** Records what a call cost, if it fits the budget. Concurrent charges never pass it. */
  trackUsage(rawKey: string, usage: Usage): Promise<TrackUsageResult> {
    return this.#driver.call((engine) => engine.charge(rawKeyOf(rawKey), costOf(usage)));
  }

  /** The same for an external subject. */
  trackUsageBySubject(subject: string, usage: Usage): Promise<TrackUsageResult> {
    return this.#driver.call((engine) => engine.chargeSubject(lookedUp(subject), costOf(usage)));
  }

  /** Creates, once, the row of an external identity; a second call changes nothing. */
  async ensureSubject(subject: string, options?: EnsureSubjectOptions | null): Promise<void> {
    await this.#driver.call((engine) => engine.ensureSubject(newSubject(subject), keySpec(options)));
  }

  /** Revokes a key; with an account only a key of that account. Whether a live key was revoked. */
  async revoke(keyId: number | string, accountId?: number | string | null): Promise<boolean> {
    const id = idText(keyId);
    const account = accountId === undefined || accountId === null ? null : idText(accountId);
    if (id === undefined || account === undefined) return false;
    return this.#driver.call((engine) => engine.revoke(id, accountId !== undefined, account));
  }

  /** Whether the key may do `scope`: it has no restriction, it has the scope, or it is an admin. */
  hasScope(result: ValidateResult, scope: string): boolean {
    return result.valid !== (false as boolean) && native.hasScope(result.scopes ?? null, scope);
  }

  /** Whether new keys may have all of `scopes`, or which they may not. */
  validateScopes(scopes: readonly string[]): { valid: true } | { valid: false; invalid: string[] } {
    const invalid = this.#engine.invalidScopes(scopeList("Invalid scopes", scopes));
    return invalid.length === 0 ? { valid: true } : { valid: false, invalid };
  }

  /** Counters. */
  stats(): Stats {
    return this.#engine.stats();
  }

  /**
   * Refuses new calls, waits for those under way and for the noting of last uses. Ends the pool only if it is of the
   * client's own.
   */
  async close(): Promise<void> {
    await this.#driver.close();
    await this.#ownPool?.end();
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

function makeEngine(options: AgentKeyOptions): native.Engine {
  const budgetPeriods = options.budgetPeriods ?? "day-and-month";
  const align = options.align ?? "creation";
  if (!["day-and-month", "all"].includes(budgetPeriods)) throw wrong("budgetPeriods", budgetPeriods);
  if (!["creation", "calendar"].includes(align)) throw wrong("align", align);
  try {
    return new native.Engine({
      tableName: optionalText("tableName", options.tableName),
      keyPrefix: optionalText("keyPrefix", options.keyPrefix),
      validScopes: options.validScopes ? scopeList("Invalid validScopes", options.validScopes) : undefined,
      allPeriods: budgetPeriods === "all",
      alignToCalendar: align === "calendar",
      timeoutMs: optionalCount("timeoutMs", options.timeoutMs, 1),
      maxWaiting: optionalCount("maxWaiting", options.maxWaiting, 1),
      touchIntervalSeconds: optionalCount("touchIntervalSeconds", options.touchIntervalSeconds, 0),
      seed: Math.floor(Math.random() * 2 ** 32),
    });
  } catch (error) {
    throw fromNative(error);
  }
}

/** The pool's own method is looked up at each call: applications wrap it to trace their queries. */
function queryOf(pool: { query: Query } | undefined): Query {
  if (typeof pool?.query !== "function") throw new TypeError("pool must have a method query(text, values)");
  return (text, values) => pool.query(text, values);
}

function optionalText(name: string, value: unknown): string | undefined {
  if (value === undefined || typeof value === "string") return value;
  throw wrong(name, value);
}

function optionalCount(name: string, value: unknown, least: number): number | undefined {
  if (value === undefined) return undefined;
  // setTimeout takes no more than 31 bits.
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value < 2 ** 31) return value;
  throw wrong(name, value);
}

function wrong(name: string, value: unknown): TypeError {
  return new TypeError(`invalid option ${name}: ${shown(value)}`);
}

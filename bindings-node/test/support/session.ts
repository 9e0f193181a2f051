// A shared case under way: a database, a client, kept values, and the steps. tests/cases/README.md is the format.
import { AgentKey, type AgentKeyOptions, expiryFromDuration } from "agentkey";
import pg from "pg";
import type { TestDatabase } from "./database.js";
import { type Json, type Kept, compare, fill, isObject, resolve } from "./expect.js";

export type Fields = { [name: string]: Json };
type Result = { result: Json } | { error: Json };

/** Takes the named members; any other is a mistake in the case. */
function members(step: Fields, required: string[], optional: string[] = []): Fields {
  for (const name of Object.keys(step)) {
    if (!required.includes(name) && !optional.includes(name)) throw new Error(`unknown member ${name}`);
  }
  for (const name of required) if (!(name in step)) throw new Error(`no member ${name}`);
  return step;
}

const CLIENT_OPTIONS = ["tableName", "keyPrefix", "keyFormat", "defaultExpiresIn", "wildcards", "validScopes", "touchIntervalSeconds", "acceptedPeriods", "align", "ledger", "thresholds", "expiryNoticeSeconds", "staleHoldSeconds", "rounding", "maxCostCents"];
const EXPECTATIONS = ["do", "note", "expect", "exactly", "error", "as"];

/** Members that a method takes by position, in the order of the step. All after the first other one are its options. */
const POSITIONAL = [
  "key",
  "subject",
  "reservationId",
  "requestId",
  "keyId",
  "accountId",
  "ttl",
  "with",
  "filter",
  "result",
  "scope",
  "scopes",
  "duration",
];

/** Steps that are no method of a client. */
const FUNCTIONS: Record<string, (pool: pg.Pool, ...args: any[]) => unknown> = {
  expiryFromDuration: (_, duration) => expiryFromDuration(duration),
  construct: (pool, options) => void new AgentKey(clientOptions(options, pool)),
};

/** The arguments of a step, in the order in which it names them. */
function argumentsOf(step: [string, Json][]): unknown[] {
  const args: unknown[] = [];
  let options: Record<string, unknown> | undefined;
  for (const [name, value] of step) {
    if (options === undefined && POSITIONAL.includes(name)) args.push(value);
    else (options ??= {})[name] = number(value);
  }
  return options === undefined ? args : [...args, options];
}

/** What JSON has no number for. */
function number(value: Json): unknown {
  return isObject(value) && "$number" in value ? Number(members(value, ["$number"]).$number) : value;
}

/** The cases count on a client that accepts all periods unless they say otherwise. */
export function clientOptions(options: Fields, pool: pg.Pool): AgentKeyOptions {
  const { acceptedPeriods = "all", ...rest } = members(options, [], CLIENT_OPTIONS);
  const budgetPeriods = { all: "all", dayAndMonth: "day-and-month" }[acceptedPeriods as string];
  if (!budgetPeriods) throw new Error(`unknown acceptedPeriods ${JSON.stringify(acceptedPeriods)}`);
  return { ...rest, budgetPeriods, pool } as AgentKeyOptions;
}

export class Session {
  readonly #kept: Kept = new Map();
  #ak: AgentKey;
  /** How many expectations were met. */
  #met = 0;

  constructor(
    readonly db: TestDatabase,
    readonly pool: pg.Pool,
    readonly table: string,
    readonly options: Fields,
  ) {
    this.#ak = new AgentKey(clientOptions(options, pool));
  }

  async migrate(): Promise<void> {
    await this.#ak.migrate();
  }

  async close(): Promise<void> {
    await this.#ak.close();
    await this.pool.end();
  }

  async run(steps: Fields[]): Promise<void> {
    await this.#steps(steps, "");
    if (this.#met === 0) throw new Error("the case expects nothing");
  }

  async #steps(steps: Fields[], within: string): Promise<void> {
    for (const [n, step] of steps.entries()) {
      try {
        await this.#step(step, `${within}${n + 1}`);
      } catch (error) {
        const { message } = error as Error;
        throw new Error(message.startsWith("step ") ? message : `step ${within}${n + 1} (${step.do}):\n${message}`);
      }
    }
  }

  async #step(step: Fields, number: string): Promise<void> {
    switch (step.do) {
      case "sql":
        return this.#sql(members(step, ["do", "run"], ["note", "rows"]));
      case "query":
        return this.#query(members(step, ["do", "sql"], ["note", "expect", "as", "eventually"]));
      case "together":
        return this.#together(members(step, ["do", "steps"], ["note", "times", "counts"]));
      case "unchanged": {
        const before = await this.#snapshot();
        await this.#steps(members(step, ["do", "steps"], ["note"]).steps as Fields[], `${number}.`);
        const after = await this.#snapshot();
        if (before !== after) throw new Error(`  rows were written, before:\n${before}\n  after:\n${after}`);
        this.#met++;
        return;
      }
      case "reopen":
        members(step, ["do"], ["note"]);
        return this.#reopen();
      default:
        return this.#meet(step, await this.#call(step));
    }
  }

  async #call(step: Fields): Promise<Result> {
    const name = step.do as string;
    const args = Object.entries(step).filter(([member]) => !EXPECTATIONS.includes(member));
    const resolved = argumentsOf(args.map(([member, value]) => [member, resolve(value, this.#kept)]));
    const call = FUNCTIONS[name]?.bind(undefined, this.pool) ?? (this.#ak as any)[name]?.bind(this.#ak);
    if (!call) throw new Error(`unknown step ${JSON.stringify(name)}`);
    if (resolved.length > Math.max(call.length, 1)) throw new Error(`too many members for ${name}`);
    try {
      return { result: plain(await call(...resolved)) };
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      if (code === undefined) throw error; // the case's mistake
      return { error: { code, message } };
    }
  }

  /** Compares a result, and keeps it where that is asked for. */
  async #meet(step: Fields, outcome: Result): Promise<void> {
    const { expect, exactly, error, as } = step;
    if (![expect, exactly, error, as].some((given) => given !== undefined)) throw new Error("  a call without an expectation");
    if (error !== undefined && [expect, exactly, as].some((given) => given !== undefined)) {
      throw new Error("  an error and a result are expected");
    }
    if ("error" in outcome) {
      if (error === undefined) throw new Error(`  failed: ${JSON.stringify(outcome.error)}`);
      return this.#compare(error, outcome.error, false);
    }
    if (error !== undefined) throw new Error(`  expected an error, got ${JSON.stringify(outcome.result)}`);
    if (expect !== undefined) await this.#compare(expect, outcome.result, false);
    if (exactly !== undefined) await this.#compare(exactly, outcome.result, true);
    if (as !== undefined) this.#kept.set(as as string, outcome.result);
  }

  async #compare(expected: Json, actual: Json, whole: boolean): Promise<void> {
    const { differences, conditions } = compare(resolve(expected, this.#kept), actual, whole);
    for (const { at, condition, value } of conditions) {
      const sql = fill(condition, this.table, this.#kept, value);
      if ((await this.db.text(`SELECT (${sql})::boolean`)) !== "true") {
        differences.push(`  ${at}: expected that ${condition}, got ${JSON.stringify(value)}`);
      }
    }
    if (differences.length > 0) throw new Error(`${differences.join("\n")}\n  the whole: ${JSON.stringify(actual)}`);
    this.#met++;
  }

  async #sql({ run, rows = 1 }: Fields): Promise<void> {
    const sql = fill(run as string, this.table, this.#kept);
    const affected = await this.db.run(sql);
    if (affected !== rows) throw new Error(`  affected ${affected} rows, not ${rows}: ${sql}`);
  }

  async #query({ sql, expect, as, eventually = false }: Fields): Promise<void> {
    if (expect === undefined && as === undefined) throw new Error("  a query without an expectation");
    const end = Date.now() + 10_000;
    for (;;) {
      const found = await this.db.text(fill(sql as string, this.table, this.#kept));
      try {
        if (expect !== undefined) await this.#compare(expect, found, false);
        if (as !== undefined) this.#kept.set(as as string, found);
        return;
      } catch (error) {
        if (eventually !== true || Date.now() > end) throw error;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
  }

  async #together({ steps, times = 1, counts }: Fields): Promise<void> {
    const calls = Array.from({ length: times as number }, () => steps as Fields[]).flat();
    const outcomes = await Promise.all(calls.map((step) => this.#call(step)));
    for (const [n, step] of calls.entries()) {
      // Without an expectation of its own a result is only counted.
      const hasOwn = ["expect", "exactly", "error"].some((name) => name in step);
      if (hasOwn || counts === undefined) await this.#meet(step, outcomes[n]!);
    }
    if (counts === undefined) return;
    let left = outcomes.map((outcome) => ("result" in outcome ? outcome.result : outcome));
    for (const entry of counts as Fields[]) {
      const { of, count } = members(entry, ["of", "count"]);
      const rest = left.filter((found) => {
        const { differences, conditions } = compare(resolve(of!, this.#kept), found, false);
        return differences.length > 0 || conditions.length > 0;
      });
      if (left.length - rest.length !== count) {
        throw new Error(`  expected ${count} of ${JSON.stringify(of)}, got ${left.length - rest.length}`);
      }
      left = rest;
    }
    if (left.length > 0) throw new Error(`  not counted: ${JSON.stringify(left)}`);
    this.#met++;
  }

  async #snapshot(): Promise<string> {
    await this.#reopen();
    return this.db.snapshot(this.table);
  }

  async #reopen(): Promise<void> {
    await this.#ak.close();
    this.#ak = new AgentKey(clientOptions(this.options, this.pool));
  }
}

/** As JSON: no result is `null`, a timestamp its text. */
function plain(result: unknown): Json {
  return result === undefined ? null : JSON.parse(JSON.stringify(result));
}

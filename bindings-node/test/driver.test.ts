// The driver on pools that misbehave: no database needed.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { AgentKey, AgentKeyError, ERROR_CODES, errorFacts } from "agentkey";
import { describe, expect, test, vi } from "vitest";
// @ts-ignore: of the package's inside
import { Engine, errorCodes } from "../native/native.js";

type Row = { agentkey: string };
type Answer = { rows: Row[] };

/** The columns of a keys table as the original leaves it, as the catalogue answers. */
const COLUMNS = [
  "(id,integer,integer,t)",
  "(account_id,text,text,t)",
  "(key_hash,text,text,t)",
  "(key_prefix,text,text,t)",
  "(revoked_at,timestamptz,timestamptz,f)",
  "(last_used_at,timestamptz,timestamptz,f)",
  "(scopes,text[],text[],f)",
  "(expires_at,timestamptz,timestamptz,f)",
  "(budget_period,text,text,f)",
  "(budget_reset_at,timestamptz,timestamptz,f)",
  "(budget_cents,integer,integer,f)",
  "(budget_used_cents,integer,integer,f)",
].map((agentkey) => ({ agentkey }));
const GRANT = "(1,7,acct,,,,,,,0,0,0,0,,,1764000000,1764000000,f,f,f,,)";
const STALE = "(1,7,acct,,,,,,,0,0,0,0,,,,1764000000,f,f,f,,)";
const isCatalogue = (sql: string) => sql.includes("pg_attribute");
const isTouch = (sql: string) => /SET\s+last_used_at/.test(sql);

/** A pool that knows the table and leaves the rest to `answer`. */
function pool(answer: (sql: string, values: unknown[]) => unknown) {
  const sent: string[] = [];
  const query = (sql: string, values: unknown[] = []): Promise<Answer> => {
    sent.push(sql);
    return (isCatalogue(sql) ? Promise.resolve({ rows: COLUMNS }) : answer(sql, values)) as Promise<Answer>;
  };
  return { query, sent };
}
const rows = (...texts: string[]) => Promise.resolve({ rows: texts.map((agentkey) => ({ agentkey })) });
const fault = (code: string) => Object.assign(new Error(`fault ${code}`), { code });

describe("errors", () => {
  test("every code of the core is known here", () => {
    expect([...ERROR_CODES].sort()).toEqual([...errorCodes()].sort());
  });

  test("a rejection reaches every caller as the same object", async () => {
    class PoolError extends Error {}
    for (const error of [new PoolError("down"), fault("57P01"), "a text", null, { code: 42, message: {} }]) {
      const ak = new AgentKey({ pool: { query: () => Promise.reject(error) } });
      const calls = [
        ak.validate("ak_x"),
        ak.validate("ak_y"),
        ak.trackUsage("ak_x", { costCents: 1 }),
        ak.create({ accountId: "a" }),
        ak.revoke(1),
        ak.ensureSubject("s"),
        ak.migrate(),
      ];
      for (const result of await Promise.allSettled(calls)) {
        expect(result.status === "rejected" && result.reason === error).toBe(true);
      }
    }
  });

  test("a rejection with nothing, and a query that throws", async () => {
    const nothing = new AgentKey({ pool: { query: () => Promise.reject(undefined) } });
    await expect(nothing.validate("ak_x")).rejects.toMatchObject({ name: "AgentKeyError", code: "database" });
    const error = new Error("thrown");
    const throwing = new AgentKey({
      pool: {
        query: () => {
          throw error;
        },
      },
    });
    await expect(throwing.validate("ak_x")).rejects.toBe(error);
  });

  test.each([
    ["ECONNREFUSED", false, true],
    ["ECONNRESET", true, true],
    ["42501", false, false],
    ["57P01", true, true],
    ["08P01", true, true],
    [undefined, true, true],
  ])("what is known of a charge that failed with %s", async (code, mayHaveBeenRecorded, transient) => {
    const error = Object.assign(new Error("fault"), code === undefined ? {} : { code });
    const ak = new AgentKey({ pool: pool(() => Promise.reject(error)), timeoutMs: 300 });
    const reason: unknown = await ak.trackUsage("ak_x", { costCents: 1 }).catch((e) => e);
    const sqlstate = code?.match(/^\d/) ? code : undefined;
    if (reason === error) expect(errorFacts(reason)).toEqual({ mayHaveBeenRecorded, transient, sqlstate });
    else expect([reason, errorFacts(reason).mayHaveBeenRecorded]).toEqual([expect.objectContaining({ code: "timeout" }), mayHaveBeenRecorded]);
  });

  test.each([
    undefined,
    null,
    42,
    [],
    {},
    { rows: null },
    { rows: "none" },
    { rows: [null] },
    { rows: [{}] },
    { rows: [{ agentkey: 1 }] },
    { rows: [{ agentkey: null }] },
    { rows: [{ agentkey: "no row" }] },
    { rows: [{ agentkey: "(1,2)" }] },
    { rows: [{ agentkey: GRANT.replace("(1", "(9") }] },
  ])("a pool that answers nonsense: %j", async (nonsense) => {
    const ak = new AgentKey({ pool: pool(() => Promise.resolve(nonsense)) });
    const failed = { name: "AgentKeyError", code: "unexpected_response" };
    await expect(ak.validate("ak_x")).rejects.toMatchObject(failed);
    await expect(ak.trackUsage("ak_x", { costCents: 1 })).rejects.toMatchObject(failed);
  });

  test("within a transaction that a conflict aborted the caller learns of the conflict", async () => {
    const first = fault("40001");
    const errors = [first, fault("25P02"), fault("25P02")];
    const ak = new AgentKey({ pool: pool(() => Promise.reject(errors.shift())) });
    await expect(ak.validate("ak_x")).rejects.toBe(first);
  });

  test("a conflict is tried again", async () => {
    let left = 2;
    const ak = new AgentKey({ pool: pool(() => (left-- > 0 ? Promise.reject(fault("40P01")) : rows(GRANT))) });
    expect(await ak.validate("ak_x")).toMatchObject({ valid: true, id: 7 });
    expect(ak.stats()).toMatchObject({ retries: 2, pending: 0 });
  });
});

test("a retry that is due before its timer is set is sent all the same", async () => {
  const { nextRetry } = Engine.prototype;
  Engine.prototype.nextRetry = function (this: unknown) {
    const end = performance.now() + 50;
    while (performance.now() < end);
    return nextRetry.call(this);
  };
  try {
    let left = 1;
    const ak = new AgentKey({ pool: pool(() => (left-- > 0 ? Promise.reject(fault("40P01")) : rows(GRANT))), timeoutMs: 5000 });
    expect(await ak.validate("ak_x")).toMatchObject({ valid: true, id: 7 });
  } finally {
    Engine.prototype.nextRetry = nextRetry;
  }
});

describe("statements", () => {
  test("the constructor does no I/O, and a call is sent before the event loop turns", async () => {
    const { query, sent } = pool(() => rows(GRANT));
    const ak = new AgentKey({ pool: { query } });
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent).toEqual([]);
    const answer = ak.validate("ak_x");
    await Promise.resolve().then(() => Promise.resolve());
    expect(sent.length).toBeGreaterThan(0);
    await answer;
  });

  test("a burst shares a statement, equal look-ups a row, and every caller owns its result", async () => {
    const batches: unknown[][] = [];
    const row = GRANT.replace("acct,,,,", 'acct,,,"{read}",');
    const ak = new AgentKey({ pool: pool((_, values) => (batches.push(values), rows(row))) });
    await ak.validate("ak_x");
    batches.length = 0;
    const results = await Promise.all(Array.from({ length: 100 }, () => ak.validate("ak_x")));
    expect(batches.length).toBe(1);
    expect(new Set(results).size).toBe(100);
    const [one, other] = results as { scopes: string[] }[];
    one!.scopes.push("admin");
    expect(other!.scopes).toEqual(["read"]);
  });

  test("parameters are text, and never a raw key", async () => {
    const values: unknown[] = [];
    const ak = new AgentKey({ pool: pool((_, v) => (values.push(...v), rows())) });
    await ak.trackUsage("ak_secret", { costCents: 3 });
    await ak.validate("ak_secret");
    expect(values.every((value) => value === null || typeof value === "string")).toBe(true);
    expect(JSON.stringify(values)).not.toContain("secret");
  });

  test("a use is noted in the background, once, and a failure of that fails nothing", async () => {
    const log = vi.spyOn(console, "error").mockImplementation(() => {});
    const touches: unknown[][] = [];
    const ak = new AgentKey({
      pool: pool((sql, values) => {
        if (!isTouch(sql)) return rows(STALE);
        touches.push(values);
        return Promise.reject(fault("42501"));
      }),
    });
    expect(await ak.validate("ak_x")).toMatchObject({ valid: true });
    expect(await ak.validate("ak_x")).toMatchObject({ valid: true });
    await ak.close();
    expect(touches).toEqual([["{\"7\"}", "60"]]);
    expect(ak.stats().failedTouches).toBe(1);
    expect(log).toHaveBeenCalledTimes(1);
    log.mockRestore();
  });

  test("a use is noted before the caller goes on: within its transaction", async () => {
    const { query, sent } = pool((sql) => (isTouch(sql) ? rows() : rows(STALE)));
    const ak = new AgentKey({ pool: { query } });
    await ak.validate("ak_x");
    expect(sent.filter(isTouch).length).toBe(1);
  });
});

describe("limits", () => {
  const never = () => new Promise(() => {});

  test("no call waits longer than its time limit, and a late answer harms nobody", async () => {
    let release!: (answer: unknown) => void;
    const ak = new AgentKey({ pool: pool(() => new Promise((resolve) => (release = resolve))), timeoutMs: 50 });
    await expect(ak.validate("ak_x")).rejects.toMatchObject({ code: "timeout" });
    release({ rows: [{ agentkey: GRANT }] });
    const silent = new AgentKey({ pool: { query: never }, timeoutMs: 50 });
    const calls = [silent.validate("ak_x"), silent.trackUsage("ak_x", { costCents: 1 }), silent.revoke(1)];
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: "timeout" });
  });

  test("a catalogue that never answers is asked for again", async () => {
    let asked = 0;
    const query = (sql: string) => (isCatalogue(sql) && asked++ === 0 ? never() : isCatalogue(sql) ? Promise.resolve({ rows: COLUMNS }) : rows(GRANT));
    const ak = new AgentKey({ pool: { query: query as never }, timeoutMs: 40 });
    await expect(ak.validate("ak_x")).rejects.toMatchObject({ code: "timeout" });
    await expect.poll(() => ak.validate("ak_x").catch(() => undefined), { timeout: 5000 }).toMatchObject({ valid: true });
  });

  test("more calls than may wait are refused", async () => {
    const ak = new AgentKey({ pool: { query: never }, maxWaiting: 2, timeoutMs: 50 });
    const waiting = [ak.validate("ak_x"), ak.validate("ak_x")];
    await expect(ak.validate("ak_x")).rejects.toMatchObject({ code: "overloaded" });
    for (const call of waiting) await expect(call).rejects.toMatchObject({ code: "timeout" });
  });

  test("close waits for what is under way and refuses what comes after", async () => {
    let release!: () => void;
    const gate = new Promise<void>((resolve) => (release = resolve));
    const ak = new AgentKey({ pool: pool(() => gate.then(() => rows(GRANT))) });
    const call = ak.validate("ak_x");
    let closed = false;
    const closing = Promise.all([ak.close(), ak.close()]).then(() => (closed = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect(closed).toBe(false);
    release();
    expect(await call).toMatchObject({ valid: true });
    await closing;
    await expect(ak.validate("ak_x")).rejects.toMatchObject({ code: "closed" });
    await ak.close();
  });

  test.each([
    ["an idle client", "", 0],
    ["a touch that never ends", "await ak.validate('ak_x')", 0],
    // Its caller must get its answer: the time limit keeps the process alive.
    ["a pending call", "ak.validate('ak_y').catch((e) => process.exit(e.code === 'timeout' ? 7 : 1))", 7],
  ])("%s and the process's end", async (_, code, status) => {
    const script = `
      const { AgentKey } = require("agentkey");
      const query = (sql, [keys] = []) => sql.includes("pg_attribute")
        ? Promise.resolve({ rows: ${JSON.stringify(COLUMNS)} })
        : (${isTouch})(sql) || hang ? new Promise(() => {}) : Promise.resolve({ rows: [{ agentkey: "${STALE}" }] });
      const hang = ${status === 7};
      const ak = new AgentKey({ pool: { query }, timeoutMs: ${status === 7 ? 100 : 60_000} });
      (async () => { ${code} })();`;
    const run = promisify(execFile)(process.execPath, ["-e", script], { cwd: new URL("..", import.meta.url), timeout: 20_000 });
    const exit = await run.then(() => 0, (error) => error.code);
    expect(exit).toBe(status);
  });
});

describe("options", () => {
  const query = () => Promise.reject(new Error("no I/O"));
  test.each([
    [{}],
    [{ pool: null }],
    [{ pool: {} }],
    [{ connectionString: 5 }],
    [{ pool: { query }, timeoutMs: 0 }],
    [{ pool: { query }, timeoutMs: "1" }],
    [{ pool: { query }, maxWaiting: -1 }],
    [{ pool: { query }, budgetPeriods: "weekly" }],
    [{ pool: { query }, align: "left" }],
    [{ pool: { query }, tableName: 5 }],
    [{ pool: { query }, ledger: "yes" }],
    [{ pool: { query }, preparedStatements: 1 }],
    [null],
  ])("%j is refused at construction", (options) => {
    expect(() => new AgentKey(options as never)).toThrow(TypeError);
  });

  test.each([
    ["tablename", "tableName"],
    ["maxCostCent", "maxCostCents"],
    ["Ledger", "ledger"],
    ["timeout", "timeoutMs"],
  ])("the option %s is refused: it is %s that is meant", (name, meant) => {
    expect(() => new AgentKey({ pool: { query }, [name]: 1 } as never)).toThrow(`AgentKey has no option ${name}; did you mean ${meant}?`);
  });

  test("an option that is like none is refused with those that there are", () => {
    expect(() => new AgentKey({ pool: { query }, colour: "red" } as never)).toThrow(/has no option colour; known are pool, /);
    expect(() => new AgentKey({ pool: { query }, colour: undefined } as never)).not.toThrow();
  });

  test.each(["", "a b", "a;DROP TABLE x", "a.b.c", "a--", '"', "1a"])("table name %j", (tableName) => {
    expect(() => new AgentKey({ pool: { query }, tableName })).toThrow(AgentKeyError);
    try {
      new AgentKey({ pool: { query }, tableName });
    } catch (error) {
      expect(error).toMatchObject({ code: "invalid_table_name" });
    }
  });

  test("key prefixes fit a header, valid scopes are texts", () => {
    expect(() => new AgentKey({ pool: { query }, keyPrefix: "a\nb" })).toThrow(/key prefix/);
    expect(() => new AgentKey({ pool: { query }, validScopes: [5] as never })).toThrow(/validScopes/);
  });
});

// Pools without a free connection: what nobody waits for any more is not sent, and callers are told the truth.
import { AgentKey, errorFacts } from "agentkey";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, TestDatabase } from "./support/database.js";

let db: TestDatabase;
beforeAll(async () => void (db = await TestDatabase.create()));
afterAll(() => db.drop());

async function starved(max: number): Promise<{ pool: pg.Pool; key: string; money: () => Promise<string> }> {
  const pool = new pg.Pool({ connectionString: db.url, max });
  const ak = new AgentKey({ pool });
  await ak.migrate();
  const { key, id } = await ak.create({ accountId: "a", budgetCents: 1_000_000 });
  await ak.close();
  const sql = `SELECT budget_used_cents || ' ' || budget_reserved_cents AS money FROM sdk_api_keys WHERE id = ${id}`;
  return { pool, key, money: async () => (await db.pool.query<{ money: string }>(sql)).rows[0]!.money };
}

for (const preparedStatements of [false, true]) {
  test(`calls that timed out without a connection never charge (prepared: ${preparedStatements})`, async () => {
    const { pool, key, money } = await starved(1);
    const ak = new AgentKey({ pool, timeoutMs: 300, preparedStatements });
    // A slow machine may need longer than that for the table's columns.
    await eventually("it has looked at the table", () => ak.validate(key).catch(() => undefined));
    const connection = await pool.connect();
    const calls = [1, 2, 3, 4, 5].flatMap(() => [ak.trackUsage(key, { costCents: 100 }), ak.reserve(key, { costCents: 100 })]);
    for (const outcome of await Promise.allSettled(calls)) {
      if (outcome.status === "fulfilled") throw new Error(JSON.stringify(outcome.value));
      expect(outcome.reason).toMatchObject({ code: "timeout" });
      expect(errorFacts(outcome.reason)).toMatchObject({ mayHaveBeenRecorded: false });
    }
    connection.release();
    // Whoever asks now is served.
    const charge = () => ak.trackUsage(key, { costCents: 7, idempotencyKey: "seven" }).catch(() => undefined);
    expect(await eventually("a call is served", charge)).toMatchObject({ success: true, budgetUsedCents: 7 });
    await ak.close();
    expect(await money()).toBe("7 0");
    await pool.end();
  });
}

test("an application that replaced the pool's query is asked by that alone", async () => {
  const { pool, key } = await starved(1);
  const texts: string[] = [];
  const query = pool.query.bind(pool) as (text: string, values: unknown[]) => Promise<pg.QueryResult>;
  pool.query = ((text: string, values: unknown[]) => {
    texts.push(text);
    return query(text, values);
  }) as typeof pool.query;
  const ak = new AgentKey({ pool });
  const connection = await pool.connect();
  const call = ak.trackUsage(key, { costCents: 1 });
  connection.release();
  expect(await call).toMatchObject({ success: true });
  await ak.close();
  expect(texts.length).toBeGreaterThan(0);
  await pool.end();
});

test("a connection that ends while it is waited for fails the call, and no process", async () => {
  const { pool, key, money } = await starved(1);
  const ak = new AgentKey({ pool });
  const connection = await pool.connect();
  const call = ak.trackUsage(key, { costCents: 1 });
  connection.release(true);
  expect(await call).toMatchObject({ success: true });
  await ak.close();
  expect(await money()).toBe("1 0");
  await pool.end();
});

test("under random limits on a starved pool callers are told the truth", { timeout: 60_000 }, async () => {
  const { pool, key, money } = await starved(2);
  const clients = [1, 1, 5, 20, 50].map((timeoutMs) => new AgentKey({ pool, timeoutMs }));
  let isOver = false;
  const application = (async () => {
    while (!isOver) await pool.query("SELECT pg_sleep(0.003)"); // the load itself: a connection that is in use
  })();
  const told = { spent: 0, perhapsSpent: 0, held: 0, perhapsHeld: 0 };
  const call = async (ak: AgentKey): Promise<void> => {
    const isCharge = Math.random() < 0.5;
    try {
      const result = isCharge ? await ak.trackUsage(key, { costCents: 1 }) : await ak.reserve(key, { costCents: 1 });
      expect(result.success).toBe(true);
      told[isCharge ? "spent" : "held"]++;
    } catch (error) {
      if (errorFacts(error).mayHaveBeenRecorded) told[isCharge ? "perhapsSpent" : "perhapsHeld"]++;
    }
  };
  const callers = Array.from({ length: 50 }, async (_, n) => {
    for (let i = 0; i < 200; i++) await call(clients[n % clients.length]!);
  });
  await Promise.all(callers);
  await Promise.all(clients.map((ak) => ak.close()));
  const now = await money();
  isOver = true;
  await application;
  await pool.end();
  const [used, held] = now.split(" ").map(Number) as [number, number];
  expect(used).toBeGreaterThanOrEqual(told.spent);
  expect(used).toBeLessThanOrEqual(told.spent + told.perhapsSpent);
  expect(held).toBeGreaterThanOrEqual(told.held);
  expect(held).toBeLessThanOrEqual(told.held + told.perhapsHeld);
  expect(told.spent * told.held).toBeGreaterThan(0);
  expect(await money()).toBe(now);
});

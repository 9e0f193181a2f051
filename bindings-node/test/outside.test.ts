// What must not depend on who calls: faked time, and the context of whoever came first.
import { AsyncLocalStorage } from "node:async_hooks";
import { AgentKey } from "agentkey";
import pg from "pg";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { TestDatabase } from "./support/database.js";

let db: TestDatabase;
let key: string;
beforeAll(async () => {
  db = await TestDatabase.create();
  const ak = new AgentKey({ pool: db.pool });
  await ak.migrate();
  ({ key } = await ak.create({ accountId: "a", budgetCents: 1_000 }));
  await ak.close();
});
afterAll(() => db.drop());
afterEach(() => void vi.useRealTimers());

/** What a pool answers with after a fault that had no effect, as often as `faults` says. */
function failing(faults: number) {
  const query = (text: string, values?: unknown[]) => {
    if (text.includes("pg_attribute") || faults-- <= 0) return db.pool.query(text, values);
    return Promise.reject(Object.assign(new Error("deadlock detected"), { code: "40P01" }));
  };
  return { query };
}

test("while time is faked calls are answered, repeated and limited as ever", async () => {
  vi.useFakeTimers();
  const ak = new AgentKey({ pool: failing(2), timeoutMs: 5_000 });
  const call = ak.trackUsage(key, { costCents: 1 });
  vi.setSystemTime(Date.now() + 86_400_000);
  vi.advanceTimersByTime(3_600_000);
  expect(await call).toMatchObject({ success: true });
  const stuck = new AgentKey({ pool: { query: () => new Promise(() => {}) }, timeoutMs: 50 });
  await expect(stuck.validate(key)).rejects.toMatchObject({ code: "timeout" });
  await ak.close();
});

test("statements run in no caller's context, and callers keep theirs", async () => {
  const context = new AsyncLocalStorage<string>();
  const pool = new pg.Pool({ connectionString: db.url, max: 2 });
  const seen: (string | undefined)[] = [];
  for (const target of [pool, await pool.connect()] as { query: pg.Pool["query"] }[]) {
    const query = target.query.bind(target) as (...args: unknown[]) => unknown;
    target.query = ((...args: unknown[]) => (seen.push(context.getStore()), query(...args))) as typeof target.query;
    const ak = context.run("who makes the client", () => new AgentKey({ pool: target }));
    const callers = ["one", "two", "three"].map((name) =>
      context.run(name, async () => {
        for (let i = 0; i < 5; i++) await ak.trackUsage(key, { costCents: 1 });
        return context.getStore();
      }),
    );
    expect(await Promise.all(callers)).toEqual(["one", "two", "three"]);
    await ak.close();
    if ("release" in target) (target as unknown as pg.PoolClient).release();
  }
  expect(seen.length).toBeGreaterThan(4);
  expect(new Set(seen)).toEqual(new Set([undefined]));
  await pool.end();
});

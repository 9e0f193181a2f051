// The database dies under load: every call fails clearly and in time, the app answers, and all recovers by itself.
import { AgentKey, agentKeyMiddleware } from "agentkey";
import pg from "pg";
import { expect, test, vi } from "vitest";
import { eventually, originalSql } from "./support/database.js";
import { TestServer } from "./support/programs.js";
import { App, EXPRESS } from "./support/server.js";

const TIMEOUT_MS = 3000;

test("kill -9 of the database under load", { timeout: 120_000 }, async () => {
  vi.spyOn(console, "error").mockImplementation(() => {});
  const server = await TestServer.start();
  const pool = new pg.Pool({ connectionString: server.url, max: 10 });
  // Without a listener node-postgres ends the process: so every application has one.
  pool.on("error", () => {});
  await pool.query(originalSql("SERIAL", "TEXT", "sdk_api_keys"));
  const ak = new AgentKey({ pool, timeoutMs: TIMEOUT_MS });
  const app = await App.start(EXPRESS[1][1], (a) => {
    a.get("/", agentKeyMiddleware(ak), (_req, res) => void res.json("ok"));
  });
  const { key } = await ak.create({ accountId: "a", budgetCents: 1_000_000 });

  let isOver = false;
  let acknowledged = 0;
  let unknown = 0;
  const slow: number[] = [];
  const failures = new Set<string>();
  const load = Array.from({ length: 64 }, async (_, n) => {
    while (!isOver) {
      const start = performance.now();
      try {
        if (n % 2) await ak.validate(key);
        else if ((await ak.trackUsage(key, { costCents: 1 })).success) acknowledged++;
      } catch (error) {
        if (n % 2 === 0) unknown++;
        failures.add((error as Error).message);
        // A refused connection fails at once: leave the others some time.
        await new Promise((resolve) => setImmediate(resolve));
      }
      const took = performance.now() - start;
      // A slow machine is late to tell a caller that its time is over, but not for ever.
      if (took > TIMEOUT_MS + 20_000) slow.push(took);
    }
  });

  try {
    await eventually("the load runs", () => acknowledged > 500);
    expect((await app.request("GET", "/", { key })).status).toBe(200);
    await server.do("crash");
    await eventually("calls fail", () => failures.size > 0);
    const answer = await app.request("GET", "/", { key });
    expect([answer.status, answer.body]).toEqual([500, { error: "auth_unavailable" }]);
    await server.do("restart");
    await eventually("the app answers again", async () => (await app.request("GET", "/", { key })).status === 200);
    const before = acknowledged;
    await eventually("charges are recorded again", () => acknowledged > before + 500);
  } finally {
    isOver = true;
    await Promise.all(load);
  }
  expect(slow).toEqual([]);
  expect([...failures].every((message) => message.length > 0)).toBe(true);
  const { rows } = await pool.query("SELECT budget_used_cents AS used FROM sdk_api_keys");
  expect(rows[0].used).toBeGreaterThanOrEqual(acknowledged);
  expect(rows[0].used).toBeLessThanOrEqual(acknowledged + unknown);
  await ak.close();
  await app.stop();
  await pool.end();
  await server.drop();
});

// Rows that a client remembers: whatever pool it is on, the next look-up sees what changed.
import { PGlite } from "@electric-sql/pglite";
import { AgentKey } from "agentkey";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestDatabase } from "./support/database.js";
import { hasPooler, startPooler } from "./support/programs.js";

let db: TestDatabase;
beforeAll(async () => void (db = await TestDatabase.create()));
afterAll(() => db.drop());

type Pool = ConstructorParameters<typeof AgentKey>[0] extends { pool?: infer P } ? NonNullable<P> : never;

/** Keys whose look-ups share statements; changes one by hand. How many rows were found unchanged before. */
async function lookUps(pool: Pool, options: { rememberedKeys?: number } = {}) {
  const ak = new AgentKey({ pool, ...options });
  await ak.migrate();
  const created = await Promise.all(Array.from({ length: 6 }, () => ak.create({ accountId: "a", budgetCents: 100 })));
  const all = () => Promise.all(created.map(({ key }) => ak.validate(key)));
  for (let round = 0; round < 5; round++) expect((await all()).every((result) => result.valid)).toBe(true);
  const { unchangedKeys } = ak.stats();
  const changed = created[3]!;
  await pool.query("UPDATE sdk_api_keys SET revoked_at = now() WHERE id = $1", [changed.id]);
  const results = await all();
  expect(results[3]).toMatchObject({ valid: false, reason: "revoked" });
  expect(results.filter((result) => result.valid)).toHaveLength(5);
  await ak.close();
  return unchangedKeys;
}

test("a pool", async () => {
  expect(await lookUps(db.pool)).toBeGreaterThan(0);
  expect(await lookUps(db.pool, { rememberedKeys: 0 })).toBe(0);
  expect(() => new AgentKey({ pool: db.pool, rememberedKeys: -1 })).toThrow(/rememberedKeys/);
});

test("a single client remembers nothing: a transaction may be open", async () => {
  const client = await db.pool.connect();
  await client.query("BEGIN");
  expect(await lookUps(client)).toBe(0);
  await client.query("ROLLBACK");
  client.release();
});

test("PGlite", async () => {
  const pglite = new PGlite();
  await lookUps(pglite);
  await pglite.close();
});

test.skipIf(!hasPooler)("PgBouncer in transaction mode", async () => {
  const pooler = await startPooler();
  const pool = new pg.Pool({ connectionString: pooler.url(db.name), max: 4 });
  expect(await lookUps(pool)).toBeGreaterThan(0);
  await pool.end();
  pooler.stop();
});

// The pools of the wild: whatever the application did to them, the answers are the same.
import { PGlite } from "@electric-sql/pglite";
import { AgentKey, type CreateKeyResult, type ValidateResult } from "agentkey";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { TestDatabase, eventually } from "./support/database.js";
import { hasPooler, startPooler } from "./support/programs.js";

let db: TestDatabase;
beforeAll(async () => void (db = await TestDatabase.create()));
afterAll(() => db.drop());

/** A key's life, on any pool; answers what was seen of it. */
async function life(ak: AgentKey): Promise<{ created: CreateKeyResult; grant: ValidateResult }> {
  const created = await ak.create({
    accountId: "42",
    scopes: ["a b", 'c"d'],
    budgetCents: 10,
    budgetPeriod: "day",
    expiresIn: "1h",
    name: null,
  });
  const grant = await ak.validate(created.key);
  if (!grant.valid) throw new Error(grant.reason);
  expect(await ak.trackUsage(created.key, { costCents: 4 })).toEqual({ success: true, budgetUsedCents: 4, budgetRemainingCents: 6 });
  const both = await Promise.all([1, 2].map(() => ak.trackUsage(created.key, { costCents: 4 })));
  expect(both.filter((usage) => usage.success).length).toBe(1);
  expect(await ak.revoke(created.id, "41")).toBe(false);
  expect(await ak.revoke(created.id, "42")).toBe(true);
  expect(await ak.validate(created.key)).toEqual({ valid: false, reason: "revoked" });
  return { created, grant };
}

/** Reservations, parents, retries and the ledger, on any pool with our columns. */
async function caps(ak: AgentKey): Promise<void> {
  await ak.migrate();
  const parent = await ak.create({ accountId: "42", budgetCents: 100, budgetPeriod: "month", delegatedBy: "alice" });
  const child = await ak.create({ parent: parent.key, budgetCents: 60 });
  const held = await ak.reserve(child.key, { costCents: 50, metadata: { 'a "b"': ["c\\d", null] } });
  if (!held.success) throw new Error(held.reason);
  expect(await ak.reserve(child.key, { costCents: 11 })).toMatchObject({ success: false, reason: "budget_exceeded", limit: { keyId: child.id } });
  const charge = () => ak.trackUsage(child.key, { costCents: 5, idempotencyKey: "it's \"one\"" });
  const both = await Promise.all([charge(), charge()]);
  expect(both.filter((usage) => usage.success && usage.budgetUsedCents === 5)).toHaveLength(2);
  expect(await ak.settle(held.reservationId, { costUsd: "0.4" })).toEqual({
    success: true,
    costCents: 40,
    overageCents: 0,
    budgetUsedCents: 45,
    budgetRemainingCents: 15,
  });
  expect(await ak.validate(parent.key)).toMatchObject({ valid: true, budgetUsedCents: 45, budgetReservedCents: 0 });
  const events = await ak.events({ keyId: child.id });
  expect(events.map(({ kind }) => kind)).toEqual(["charge", "create"]);
  expect(await ak.revokeAll({ delegatedBy: "alice" })).toBe(2);
  await ak.revoke(parent.id);
  expect(await ak.validate(child.key)).toMatchObject({ valid: false, reason: "revoked" });
}

describe("the application's global type parsers", () => {
  const OIDS = [16, 20, 21, 23, 25, 1009, 1082, 1114, 1184, 1700, 2249, 2950];
  const before = new Map(OIDS.map((oid) => [oid, pg.types.getTypeParser(oid)]));
  afterEach(() => before.forEach((parser, oid) => pg.types.setTypeParser(oid, parser as never)));
  const TEXT = 25;

  test.each<[string, (value: string) => unknown]>([
    ["strings", (value) => value],
    ["BigInt", (value) => (/^-?\d+$/.test(value) ? BigInt(value) : value)],
    ["dates of one's own", (value) => ({ when: value })],
    ["a parser that fails", () => { throw new Error("unused types are not parsed"); }],
  ])("%s", async (_, parser) => {
    for (const oid of OIDS) if (oid !== TEXT) pg.types.setTypeParser(oid, parser as never);
    for (const [id, account] of [["SERIAL", "TEXT"], ["BIGSERIAL", "INTEGER"]] as const) {
      await db.originalTable(id, account);
      const { created, grant } = await life(new AgentKey({ pool: db.pool }));
      expect(created.id).toBe(1);
      expect(grant).toEqual({
        valid: true,
        id: 1,
        accountId: account === "INTEGER" ? 42 : "42",
        userId: null,
        scopes: ["a b", 'c"d'],
        budgetCents: 10,
        budgetUsedCents: 0,
        budgetReservedCents: 0,
        budgetRemainingCents: 10,
        budgetPeriod: "day",
        budgetResetAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
        expiresAt: created.expiresAt,
        delegatedBy: null,
        name: "default",
      });
      expect(new Date(grant.budgetResetAt!) > new Date()).toBe(true);
    }
    await db.run("DROP TABLE sdk_api_keys");
    await caps(new AgentKey({ pool: db.pool }));
    await db.run("DROP TABLE sdk_api_keys, sdk_api_keys_events, sdk_api_keys_reservations, sdk_api_keys_deliveries");
  });
});

test.each([
  ["SERIAL", "TEXT", "42", "42"],
  ["BIGSERIAL", "INTEGER", 42, 42],
  ["UUID DEFAULT gen_random_uuid()", "BIGINT", 42, "42"],
  ["SERIAL", "UUID", "0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f", "0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f"],
  ["TEXT DEFAULT gen_random_uuid()::text", "VARCHAR(40)", "acct", "acct"],
])("the original's table with id %s and account_id %s, without a migration", async (id, account, given, seen) => {
  await db.originalTable(id, account);
  const ak = new AgentKey({ pool: db.pool });
  const created = await ak.create({ accountId: given, budgetCents: 5, budgetPeriod: "month", scopes: ["read"], expiresIn: "1mo" });
  expect(typeof created.id).toBe(id.endsWith("SERIAL") ? "number" : "string");
  const grant = await ak.validate(created.key);
  expect(grant).toMatchObject({ valid: true, id: created.id, accountId: seen, budgetRemainingCents: 5 });
  expect(await ak.trackUsage(created.key, { costCents: 5 })).toMatchObject({ success: true, budgetRemainingCents: 0 });
  expect(await ak.validate(created.key)).toMatchObject({ valid: false, reason: "budget_exceeded" });
  await ak.ensureSubject("subject", { accountId: given });
  await ak.ensureSubject("subject", { accountId: given, budgetCents: 1 });
  expect(await ak.validateBySubject("subject")).toMatchObject({ valid: true, accountId: seen, budgetCents: null });
  expect(await ak.trackUsageBySubject("subject", { costCents: 0.2 })).toEqual({ success: true, budgetUsedCents: 1, budgetRemainingCents: null });
  expect(await ak.revoke(created.id, null)).toBe(false);
  expect(await ak.revoke(`${created.id}abc`)).toBe(false);
  expect(await ak.revoke(created.id, seen)).toBe(true);
  await ak.close();
  expect(await db.number("SELECT count(*) FROM sdk_api_keys WHERE last_used_at IS NOT NULL")).toBe(2);
});

describe("a client within the caller's transaction", () => {
  test("what it did is gone after a rollback, and there after a commit", async () => {
    await db.originalTable();
    const client = await db.pool.connect();
    try {
      for (const [end, reason] of [["ROLLBACK", "invalid"], ["COMMIT", undefined]] as const) {
        await client.query("BEGIN");
        const ak = new AgentKey({ pool: client });
        const { key } = await ak.create({ accountId: "a", budgetCents: 5 });
        expect(await ak.validate(key)).toMatchObject({ valid: true });
        expect(await ak.trackUsage(key, { costCents: 5 })).toMatchObject({ success: true });
        await ak.close();
        await client.query(end);
        const outside = await new AgentKey({ pool: db.pool }).validate(key);
        expect(outside).toMatchObject({ valid: false, reason: reason ?? "budget_exceeded" });
      }
    } finally {
      client.release();
    }
  });

  test("a conflict that aborts it is what the caller learns", async () => {
    await db.originalTable();
    const { key } = await new AgentKey({ pool: db.pool }).create({ accountId: "a" });
    const client = await db.pool.connect();
    try {
      await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
      await client.query("SELECT 1");
      await new AgentKey({ pool: db.pool }).trackUsage(key, { costCents: 1 });
      await expect(new AgentKey({ pool: client }).trackUsage(key, { costCents: 1 })).rejects.toMatchObject({ code: "40001" });
      await client.query("ROLLBACK");
    } finally {
      client.release();
    }
    expect(await db.number("SELECT budget_used_cents FROM sdk_api_keys")).toBe(1);
  });
});

test("a role and a search_path of the pool's apply", async () => {
  await db.run("DROP SCHEMA IF EXISTS app CASCADE; CREATE SCHEMA app");
  await db.originalTable("SERIAL", "TEXT", "app.keys");
  const pool = new pg.Pool({ connectionString: db.url, options: "-c search_path=app" });
  await life(new AgentKey({ pool, tableName: "keys" }));
  await life(new AgentKey({ pool: db.pool, tableName: "app.keys" }));
  await pool.end();
});

test("a pool of its own, made with the first call and ended with close", async () => {
  await db.originalTable();
  const ak = new AgentKey({ connectionString: db.url });
  await life(ak);
  await ak.close();
  await new AgentKey({ connectionString: "postgresql://nobody@127.0.0.1:1/none" }).close();
});

test("prepared statements, once a connection, named by their text", async () => {
  await db.originalTable();
  await db.originalTable("SERIAL", "TEXT", "other_keys");
  const pool = new pg.Pool({ connectionString: db.url, max: 1 });
  const clients = ["sdk_api_keys", "other_keys"].map((tableName) => new AgentKey({ pool, tableName, preparedStatements: true }));
  for (const ak of clients) {
    await life(ak);
    await caps(ak);
    await life(ak);
  }
  const { rows } = await pool.query("SELECT statement FROM pg_prepared_statements WHERE name LIKE 'agentkey\\_%'");
  const lookUps = rows.filter(({ statement }) => /^SELECT ROW\(\s+1,/.test(statement));
  // Of each table one before its migration and one after it.
  expect(lookUps.length).toBe(4);
  await Promise.all(clients.map((ak) => ak.close()));
  for (const table of ["sdk_api_keys", "other_keys"]) await pool.query(`DROP TABLE ${table}, ${table}_events, ${table}_reservations, ${table}_deliveries`);
  await pool.end();

  await db.originalTable();
  const own = new AgentKey({ connectionString: db.url, preparedStatements: true });
  await life(own);
  await own.close();
  expect(() => new AgentKey({ pool: db.pool, preparedStatements: "yes" as never })).toThrow("preparedStatements");
});

/** How many statements of ours the only connection of a pool has prepared. */
const prepared = async (pool: pg.Pool) => {
  const { rows } = await pool.query("SELECT count(*)::int AS n FROM pg_prepared_statements WHERE name LIKE 'agentkey\\_%'");
  return rows[0].n as number;
};

test("statements are prepared where that is safe, and no more where it is not", async () => {
  await db.originalTable();
  const pool = new pg.Pool({ connectionString: db.url, max: 1 });
  pool.on("error", () => {});
  for (const forget of ["DISCARD ALL", "DEALLOCATE ALL"]) {
    const ak = new AgentKey({ pool });
    await life(ak);
    expect(await prepared(pool)).toBeGreaterThan(0);
    const { key } = await ak.create({ accountId: "a", budgetCents: 300 });
    await ak.trackUsage(key, { costCents: 1 });
    await pool.query(forget);
    const answers = await Promise.all([ak.validate(key), ak.trackUsage(key, { costCents: 1 }), ak.validate("ak_none")]);
    expect(answers).toMatchObject([{ valid: true }, { success: true, budgetUsedCents: 2 }, { valid: false }]);
    await life(ak);
    await caps(ak);
    // The connection that forgot is gone, and a new one prepares nothing.
    expect(await prepared(pool)).toBe(0);
    await ak.close();
  }
  // Columns that change below prepared statements.
  const ak = new AgentKey({ pool });
  const { key } = await ak.create({ accountId: "a", budgetCents: 300 });
  for (const change of ["ALTER COLUMN budget_used_cents TYPE bigint", "ADD COLUMN another int", "ALTER COLUMN name TYPE varchar(200)"]) {
    await ak.trackUsage(key, { costCents: 1 });
    await pool.query(`ALTER TABLE sdk_api_keys ${change}`);
    expect(await ak.validate(key)).toMatchObject({ valid: true });
  }
  expect(await ak.trackUsage(key, { costCents: 1 })).toMatchObject({ success: true, budgetUsedCents: 4 });
  await ak.close();
  await pool.query("DROP TABLE sdk_api_keys, sdk_api_keys_events, sdk_api_keys_reservations, sdk_api_keys_deliveries");
  await pool.end();
});

test("a function that an application put in the place of query sees texts and values", async () => {
  await db.originalTable();
  const pool = new pg.Pool({ connectionString: db.url, max: 1 });
  const ak = new AgentKey({ pool });
  const seen: unknown[][] = [];
  const { query } = pool;
  // In the middle of its life, as a test's spy does it.
  await life(ak);
  (pool as any).query = (...statement: unknown[]) => {
    seen.push(statement);
    return (query as any).apply(pool, statement);
  };
  await life(ak);
  expect(seen.length).toBeGreaterThan(3);
  // Also where all connections are in use.
  const client = await pool.connect();
  const before = seen.length;
  const answer = ak.validate("ak_none");
  await eventually("it is asked", () => seen.length > before);
  client.release();
  expect(await answer).toEqual({ valid: false, reason: "invalid" });
  expect(seen.every(([text, values]) => typeof text === "string" && Array.isArray(values))).toBe(true);
  await ak.close();
  await pool.end();
});

test("PGlite", async () => {
  const pglite = new PGlite();
  const ak = new AgentKey({ pool: pglite });
  await ak.migrate();
  await ak.migrate();
  await life(ak);
  await caps(ak);
  await ak.close();
  await pglite.close();
});

test.skipIf(!hasPooler)("PgBouncer in transaction mode: every answer is the right one", async () => {
  const pooler = await startPooler();
  try {
    await db.originalTable();
    await db.originalTable("SERIAL", "TEXT", "other_keys");
    // Two tables with the same statements but other names, keys told apart by their budgets.
    const clients = Array.from({ length: 10 }, (_, n) => {
      const pool = new pg.Pool({ connectionString: pooler.url(db.name), max: 4 });
      return { pool, ak: new AgentKey({ pool, tableName: n % 2 ? "other_keys" : "sdk_api_keys" }) };
    });
    const keys = await Promise.all(
      Array.from({ length: 20 }, (_, n) => clients[n % 2]!.ak.create({ accountId: `a${n}`, budgetCents: 1_000_000 + n })),
    );
    const wrong: unknown[] = [];
    const rounds = Number(process.env.AGENTKEY_POOLER_ROUNDS ?? 15);
    for (let round = 0; round < rounds; round++) {
      await Promise.all(
        clients.flatMap(({ ak }, c) =>
          keys.map(async ({ key }, n) => {
            const known = n % 2 === c % 2;
            const grant = await ak.validate(key);
            if (grant.valid !== known || (grant.valid && grant.budgetCents !== 1_000_000 + n)) wrong.push(grant);
            const usage = await ak.trackUsage(key, { costCents: 1 });
            if (usage.success !== known) wrong.push(usage);
          }),
        ),
      );
    }
    expect(wrong).toEqual([]);
    for (const table of ["sdk_api_keys", "other_keys"]) {
      expect(await db.number(`SELECT count(*) FROM ${table} WHERE budget_used_cents = ${5 * rounds}`)).toBe(10);
    }
    await db.run("DROP TABLE sdk_api_keys");
    await caps(new AgentKey({ pool: clients[0]!.pool }));
    await Promise.all(clients.map(({ ak }) => ak.close()));
    await Promise.all(clients.map(({ pool }) => pool.end()));
  } finally {
    pooler.stop();
  }
});

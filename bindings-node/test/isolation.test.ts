// Calls share statements. A row that somebody else has locked is the affair of its own key.
import { AgentKey } from "agentkey";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestDatabase } from "./support/database.js";

const KEYS = 30;
const CALLS = 10;

let db: TestDatabase;
beforeAll(async () => void (db = await TestDatabase.create()));
afterAll(() => db.drop());

test("a locked row keeps no other key waiting", async () => {
  const pools = [0, 1].map(() => new pg.Pool({ connectionString: db.url }));
  for (const pool of pools) pool.on("error", () => undefined); // the database is dropped at the end
  const clients = pools.map((pool) => new AgentKey({ pool, timeoutMs: 30_000 }));
  await clients[0]!.migrate();
  const create = () => clients[0]!.create({ accountId: "a", budgetCents: 1_000_000 });
  const locked = await create();
  const others = await Promise.all(Array.from({ length: KEYS }, create));
  const session = new pg.Client({ connectionString: db.url });
  await session.connect();
  const calls: ((ak: AgentKey, key: string, n: number) => Promise<unknown>)[] = [
    (ak, key) => ak.trackUsage(key, { costCents: 1 }),
    (ak, key, n) => ak.trackUsage(key, { costCents: 1, idempotencyKey: `call ${n}` }),
    async (ak, key) => {
      const held = await ak.reserve(key, { costCents: 1 });
      return held.success && ak.settle(held.reservationId, { costCents: 1 });
    },
  ];
  for (const call of calls) {
    await session.query("BEGIN");
    await session.query("SELECT 1 FROM sdk_api_keys WHERE id = $1 FOR UPDATE", [locked.id]);
    let isStuck = true;
    const stuck = call(clients[0]!, locked.key, 0).finally(() => (isStuck = false));
    await Promise.all(
      clients.flatMap((ak) =>
        others.map(async ({ key }) => {
          for (let n = 0; n < CALLS; n++) expect(await call(ak, key, n)).toMatchObject({ success: true });
        }),
      ),
    );
    expect(isStuck).toBe(true);
    await session.query("ROLLBACK");
    expect(await stuck).toMatchObject({ success: true });
  }
  await session.end();
  for (const ak of clients) await ak.close();
  for (const pool of pools) await pool.end();
}, 60_000);

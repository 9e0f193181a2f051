// Throughput and latency beside one query a call, on the same pool of 10.
//   tests/postgres.sh run -- node bindings-node/bench/bench.mjs [seconds]
// AGENTKEY_BENCH_PREPARED=1 prepares the statements of the baseline, too, once a connection.
import { createHash } from "node:crypto";
import { performance } from "node:perf_hooks";
import pg from "pg";
import { AgentKey } from "../dist/index.mjs";

const SECONDS = Number(process.argv[2] ?? 2);
const KEYS = 200;
const hash = (key) => createHash("sha256").update(key).digest("hex");

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
await pool.query("DROP TABLE IF EXISTS sdk_api_keys, sdk_api_keys_events, sdk_api_keys_reservations CASCADE");
const PREPARED = process.env.AGENTKEY_BENCH_PREPARED === "1";
const ak = new AgentKey({ pool });
const query = (name, text, values) => pool.query(PREPARED ? { name, text, values } : { text, values });
await ak.migrate();
const keys = [];
for (let i = 0; i < KEYS; i++) {
  keys.push((await ak.create({ accountId: `a${i % 20}`, scopes: ["read", "write"], budgetCents: 2_000_000_000 })).key);
}
await pool.query("VACUUM ANALYZE sdk_api_keys");

// What an application would write by hand: one SELECT and one UPDATE that nobody waits for.
let touches = new Set();
async function selectAndTouch(key) {
  const { rows } = await query(
    "select",
    `SELECT id, account_id, user_id, scopes, budget_cents, budget_used_cents, budget_period, budget_reset_at, expires_at,
      delegated_by, name, revoked_at FROM sdk_api_keys WHERE key_hash = $1`,
    [hash(key)],
  );
  const row = rows[0];
  if (!row) return { valid: false, reason: "invalid" };
  if (row.revoked_at) return { valid: false, reason: "revoked" };
  if (row.expires_at && row.expires_at < new Date()) return { valid: false, reason: "expired" };
  if (row.budget_cents !== null && Number(row.budget_used_cents) >= Number(row.budget_cents)) return { valid: false, reason: "budget_exceeded" };
  const touch = query("touch", "UPDATE sdk_api_keys SET last_used_at = now() WHERE id = $1", [row.id]).finally(() => touches.delete(touch));
  touches.add(touch);
  return { valid: true, id: row.id, scopes: row.scopes };
}
async function guardedUpdate(key) {
  const { rows } = await query(
    "charge",
    `UPDATE sdk_api_keys SET budget_used_cents = budget_used_cents + $2
     WHERE key_hash = $1 AND revoked_at IS NULL AND (budget_cents IS NULL OR budget_used_cents + $2 <= budget_cents)
     RETURNING budget_used_cents, budget_cents`,
    [hash(key), 1],
  );
  return { success: rows.length === 1 };
}

async function measure(inFlight, call, seconds = SECONDS) {
  const end = performance.now() + seconds * 1000;
  let calls = 0;
  const before = performance.eventLoopUtilization();
  const start = performance.now();
  const worker = async (n) => {
    for (let i = n; performance.now() < end; i += inFlight) {
      const result = await call(i);
      if (result.valid === false || result.success === false) throw new Error(`refused: ${JSON.stringify(result)}`);
      calls++;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, (_, n) => worker(n)));
  await Promise.all(touches);
  const elapsed = performance.now() - start;
  const { active } = performance.eventLoopUtilization(before);
  return { perSecond: (calls / elapsed) * 1000, busyUs: (active / calls) * 1000 };
}

const distinct = (i) => keys[i % KEYS];
const hot = () => keys[0];
const rows = [];
async function compare(name, inFlight, pick, ours, theirs, target) {
  // Alternating, so that a noisy machine is noisy for both.
  const results = { ours: [], theirs: [] };
  await measure(inFlight, (i) => theirs(pick(i)), 0.3);
  await measure(inFlight, (i) => ours(pick(i)), 0.3);
  for (let round = 0; round < 2; round++) {
    results.theirs.push(await measure(inFlight, (i) => theirs(pick(i)), SECONDS / 2));
    results.ours.push(await measure(inFlight, (i) => ours(pick(i)), SECONDS / 2));
  }
  const mean = (list, what) => list.reduce((sum, r) => sum + r[what], 0) / list.length;
  const [o, t] = [mean(results.ours, "perSecond"), mean(results.theirs, "perSecond")];
  rows.push({
    what: name,
    "in flight": inFlight,
    "one query a call, /s": Math.round(t),
    "agentkey, /s": Math.round(o),
    throughput: `${(o / t).toFixed(2)}x`,
    latency: `${(t / o).toFixed(2)}x`,
    "event loop, us a call": `${mean(results.theirs, "busyUs").toFixed(1)} -> ${mean(results.ours, "busyUs").toFixed(1)}`,
    target: target ?? "",
  });
}

for (const n of [1, 64, 256]) {
  const t = (text) => (n === 1 || n === 256 ? text : undefined);
  await compare("validate, 200 keys", n, distinct, (k) => ak.validate(k), selectAndTouch, t(n === 1 ? "latency 0.75x" : "25x"));
  await compare("validate, one key", n, hot, (k) => ak.validate(k), selectAndTouch);
  await compare("charge, 200 keys", n, distinct, (k) => ak.trackUsage(k, { costCents: 1 }), guardedUpdate, t(n === 1 ? "latency 1.05x" : "15x"));
  await compare("charge, one key", n, hot, (k) => ak.trackUsage(k, { costCents: 1 }), guardedUpdate, t(n === 1 ? undefined : "60x"));
}
console.table(rows);

const MILLION = Number(process.env.AGENTKEY_BENCH_CALLS ?? 1_000_000);
global.gc?.();
const rss = process.memoryUsage().rss;
for (let done = 0; done < MILLION; done += 500) {
  await Promise.all(Array.from({ length: 500 }, (_, i) => (i % 2 ? ak.validate(distinct(i)) : ak.trackUsage(distinct(i), { costCents: 1 }))));
}
global.gc?.();
const grown = (process.memoryUsage().rss - rss) / 2 ** 20;
console.log(`memory after ${MILLION} calls: ${grown >= 0 ? "+" : ""}${grown.toFixed(1)} MiB (rss ${(process.memoryUsage().rss / 2 ** 20).toFixed(0)} MiB)`);
await ak.close();
await pool.end();

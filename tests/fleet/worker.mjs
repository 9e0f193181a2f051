// Spends through the npm package for a while, and prints what was acknowledged: see core/tests/fleet/main.rs.
import { createRequire } from "node:module";
import { AgentKey, errorFacts } from "../../bindings-node/dist/index.mjs";

const pg = createRequire(new URL("../../bindings-node/package.json", import.meta.url))("pg");
const { url, keys, seconds, callers } = JSON.parse(process.env.AGENTKEY_FLEET);
const pool = new pg.Pool({ connectionString: url, max: 4 });
const ak = new AgentKey({ pool });
const report = { done: {}, unknown: {}, calls: 0, failed: 0 };

/** Notes what an operation spent; `call` answers the cents that were recorded. */
async function note(key, most, call) {
  report.calls++;
  try {
    const cents = await call();
    report.done[key] = (report.done[key] ?? 0) + cents;
  } catch (error) {
    report.failed++;
    if (errorFacts(error).mayHaveBeenRecorded) report.unknown[key] = (report.unknown[key] ?? 0) + most;
  }
}

/** Whether one of two calls that ask for the same thing did it. */
async function either(call) {
  const ends = await Promise.allSettled([call(), call()]);
  if (ends.some((end) => end.value?.success)) return true;
  const failed = ends.find((end) => end.status === "rejected");
  if (failed) throw failed.reason;
  return false;
}

const spends = [
  async (key) => ((await ak.trackUsage(key, { costCents: 1 })).success ? 1 : 0),
  async (key) => {
    const idempotencyKey = crypto.randomUUID();
    return (await either(() => ak.trackUsage(key, { costCents: 2, idempotencyKey }))) ? 2 : 0;
  },
  async (key) => {
    const held = await ak.reserve(key, { costCents: 3 });
    if (!held.success) return 0;
    return (await either(() => ak.settle(held.reservationId, { costCents: 2 }))) ? 2 : 0;
  },
];
const until = Date.now() + seconds * 1000;
const caller = async () => {
  while (Date.now() < until) {
    const key = keys[Math.floor(Math.random() * keys.length)];
    const spend = spends[Math.floor(Math.random() * spends.length)];
    await note(key, 3, () => spend(key));
  }
};
await Promise.all(Array.from({ length: callers }, caller));
await ak.close();
await pool.end();
console.log(JSON.stringify(report));

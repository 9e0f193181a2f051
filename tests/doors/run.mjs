// Seven guarded servers on one tree of keys, under a random mix: plain requests and streams, clients that leave, errors,
// deploys by SIGTERM with a second of grace, restarts of the database. In the end the ledger must be what the handlers
// said, to the micro-cent.
//   tests/postgres.sh run -- node tests/doors/run.mjs SECONDS PYTHON RUST
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { AgentKey } from "../../bindings-node/dist/index.mjs";

const pg = createRequire(new URL("../../bindings-node/package.json", import.meta.url))("pg");
const [seconds, python, rust] = [Number(process.argv[2]), ...process.argv.slice(3)];
const CALLERS = 40;
const TTL_MS = 10_000;
const DEPLOY_EVERY_MS = 4000;
const RESTART_EVERY_MS = 9000;
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
// What happens in the mix has times of its own; no check waits for a time but the holds' own.
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const below = (n) => Math.floor(Math.random() * n);
const oneOf = (list) => list[below(list.length)];

// --- the database, and the tree of keys

const directory = `${process.env.AGENTKEY_PG_RUN}/doors`;
const postgres = async (command) => (await promisify(execFile)(here("../postgres.sh"), [command, directory])).stdout.trim();
const url = await postgres("start");
const pool = new pg.Pool({ connectionString: url, max: 2 });
pool.on("error", () => {});
const ak = new AgentKey({ pool, ledger: true });
await ak.migrate();
const root = await ak.create({ accountId: "acme", scopes: ["mint"], budgetCents: 10_000_000 });
const keys = [root];
for (let child = 0; child < 4; child++) {
  // The last two run dry, and refuse.
  const parent = await ak.create({ accountId: "acme", parent: root.id, budgetCents: child < 2 ? 1_000_000 : 300 });
  keys.push(parent);
  for (const _ of [1, 2]) keys.push(await ak.create({ accountId: "acme", parent: parent.id, budgetCents: 300_000 }));
}

// --- the servers

const PROGRAMS = {
  "express-4": [process.execPath, here("server.mjs")],
  "express-5": [process.execPath, here("server.mjs")],
  fastify: [process.execPath, here("server.mjs")],
  fastapi: [python, here("server.py")],
  asgi: [python, here("server.py")],
  axum: [rust],
  tower: [rust],
};
const said = []; // what the handlers spent
const ran = new Set(); // the reservations of handlers that began
const lost = []; // what a server says is not recorded
const running = new Map();
let deploys = 0;

/** What a server's `onError` heard. A price that fails is on purpose, and the estimate counts. */
function told(name, message) {
  if (!message.includes("the price is not known") || message.includes("is not recorded")) lost.push(`${name}: ${message}`);
}

async function deploy(name) {
  const before = running.get(name);
  const [program, ...scripts] = PROGRAMS[name];
  const child = spawn(program, [...scripts, name], { env: { ...process.env, DATABASE_URL: url }, stdio: ["ignore", "pipe", "pipe"] });
  const server = { name, child, port: undefined, log: "", isStopping: false, ended: once(child, "close") };
  child.stderr.on("data", (text) => (server.log += text));
  const listening = new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (text) => {
      const line = JSON.parse(text);
      if (line.port) resolve((server.port = line.port));
      else if ("ran" in line) ran.add(line.ran);
      else if ("told" in line) told(name, line.told);
      else said.push(line);
    });
    void server.ended.then(([code, signal]) => {
      const isClean = server.isStopping && (code === 0 || signal === "SIGTERM");
      if (!isClean) reject(new Error(`${name} ended with ${code ?? signal}: ${server.log}`));
      server.isClean = isClean;
    });
  });
  await listening;
  running.set(name, server);
  if (before) await stop(before);
  deploys++;
}

async function stop(server) {
  server.isStopping = true;
  server.child.kill("SIGTERM");
  await server.ended;
  assert(server.isClean, `${server.name} did not end cleanly: ${server.log}`);
}

// --- the mix

let until;
const statuses = {};

function randomPlan() {
  const isFlat = below(5) === 0;
  const isStream = below(3) === 0;
  return {
    isFlat,
    estimate: 1 + below(3_000_000),
    says: oneOf(isFlat ? ["amount", "charges"] : ["amount", "amount", "nothing", "charges", "fails"]),
    each: below(400_000),
    parts: isStream ? 1 + below(40) : 1,
    pauseMs: isStream ? below(60) : 0,
    bytes: oneOf([1, 100, 100_000]),
    status: oneOf([200, 200, 200, 201, 400, 418, 422, 500, 503]),
    throws: below(12) === 0,
  };
}

/** One request, whose client may leave in the middle; nothing that happens to it is a fault of the run. */
function visit(server) {
  const plan = randomPlan();
  const path = plan.isFlat ? "/flat" : below(15) === 0 ? "/missing" : "/held";
  const leavesAfter = below(4) === 0 ? below(150) : undefined;
  return new Promise((resolve) => {
    const options = {
      port: server.port,
      host: "127.0.0.1",
      path: `${path}?plan=${encodeURIComponent(JSON.stringify(plan))}`,
      headers: { authorization: `Bearer ${below(30) === 0 ? "sk_nobody" : oneOf(keys).key}` },
      agent: false,
    };
    const request = httpRequest(options, (response) => {
      statuses[response.statusCode] = (statuses[response.statusCode] ?? 0) + 1;
      response.on("error", resolve).on("close", resolve).resume();
    });
    request.on("error", resolve).on("close", resolve).end();
    if (leavesAfter !== undefined) setTimeout(() => request.destroy(), leavesAfter);
  });
}

async function caller() {
  while (Date.now() < until) {
    const server = oneOf([...running.values()]);
    await visit(server);
    if (server.isStopping) await pause(5);
  }
}

async function deployments() {
  for (const name of cycle(Object.keys(PROGRAMS))) {
    await pause(DEPLOY_EVERY_MS);
    if (Date.now() > until) return;
    await deploy(name);
  }
}

function* cycle(list) {
  for (;;) yield* list;
}

let restarts = 0;
async function outages() {
  for (;;) {
    await pause(RESTART_EVERY_MS);
    if (Date.now() > until) return;
    if (below(2) === 0) await postgres("crash");
    await postgres("restart");
    restarts++;
  }
}

/** A key of the tree makes way for a new one, while requests of it are under way. */
async function turnover() {
  for (;;) {
    await pause(1500);
    if (Date.now() > until) return;
    const place = 1 + below(keys.length - 1);
    const parent = root.id;
    // The database may be away: then nothing is turned over this time.
    const fresh = await ak.create({ accountId: "acme", parent, budgetCents: 50_000 }).catch(() => undefined);
    if (!fresh) continue;
    const gone = keys[place];
    keys[place] = fresh;
    await ak.revoke(gone.id).catch(() => {});
  }
}

try {
  await Promise.all(Object.keys(PROGRAMS).map(deploy));
  until = Date.now() + seconds * 1000;
  await Promise.all([...Array.from({ length: CALLERS }, caller), deployments(), outages(), turnover()]);
  await Promise.all([...running.values()].map(stop));
  await check();
} finally {
  for (const { child } of running.values()) child.kill("SIGKILL");
  await ak.close();
  await pool.end();
  await postgres("stop");
}

// --- what is in the ledger

async function check() {
  const rows = async (sql) => (await pool.query(sql)).rows;
  const sum = (map, key, amount) => map.set(key, (map.get(key) ?? 0) + amount);
  const byReservation = new Map();
  const byKey = new Map();
  for (const { spent, reservation, key } of said) {
    if (reservation) sum(byReservation, reservation, spent);
    sum(byKey, String(key), spent);
  }
  const ended = await rows(`SELECT id::text, key_id::text AS key, state, settled_microcents::text AS cost FROM sdk_api_keys_reservations`);
  const wrong = ended.filter(({ id, state, cost }) => Number(state === "settled" ? cost : 0) !== (byReservation.get(id) ?? 0));
  const open = ended.filter(({ id, state }) => state === "pending" && ran.has(id));
  const own = await rows(`SELECT key_id::text AS key, sum(amount_microcents)::text AS spent FROM sdk_api_keys_events
    WHERE kind IN ('charge', 'settle') AND via_key_id IS NULL GROUP BY key_id`);
  const recorded = new Map(own.map(({ key, spent }) => [key, Number(spent)]));
  const unlike = [...new Set([...byKey.keys(), ...recorded.keys()])]
    .map((key) => ({ key, said: byKey.get(key) ?? 0, recorded: recorded.get(key) ?? 0 }))
    .filter(({ said, recorded }) => said !== recorded);

  // Holds of requests whose servers never heard of them end with their time.
  const unheard = ended.filter(({ state }) => state === "pending").length;
  if (unheard > 0) await pause(TTL_MS);
  await ak.sweepReservations();
  const [{ held }] = await rows("SELECT sum(budget_reserved_cents + abs(budget_reserved_microcents))::text AS held FROM sdk_api_keys");
  const total = [...byKey.values()].reduce((all, spent) => all + spent, 0);
  console.log(`${said.length} requests or parts of them spent ${total} micro-cents, ${ended.length} reservations, ${deploys} deploys, ${restarts} restarts`);
  console.log(`statuses ${JSON.stringify(statuses)}; ${unheard} holds whose servers never heard of them`);
  assert.deepEqual(lost, [], "a server could not record what was spent");
  assert.deepEqual(wrong.map((row) => ({ ...row, said: byReservation.get(row.id) })), [], "reservations");
  assert.deepEqual(open, [], "holds of requests that have ended");
  assert.deepEqual(unlike, [], "keys");
  assert.deepEqual(await ak.verifyLedger(), [], "the counters are what the ledger says");
  assert.equal(held, "0", "nothing is held in the end");
  assert(said.length > 0 && restarts > 0 && deploys > Object.keys(PROGRAMS).length, "too little happened");
}

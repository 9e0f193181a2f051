// One key with 5 dollars a day, and an agent that spends them through several servers at once.
//   node examples/demo.mjs Express="node examples/express/app.mjs" axum="target/release/agentkey-example-axum" ...
// Each server is a name and the command of a program that reads DATABASE_URL and PORT and prints a line once it listens.
// It works in a database that it makes and drops.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const { AgentKey, pg } = packages();
const BUDGET_CENTS = 500;
const MORE_CENTS = 500;
const WORKERS = 64;
const DEAREST_CENTS = 7;
const BOOST_SECONDS = 15;

const serverUrl = process.env.DATABASE_URL;
if (!serverUrl) throw new Error("DATABASE_URL is not set: run `make demo`");
const database = `agentkey_demo_${process.pid}`;
const url = Object.assign(new URL(serverUrl), { pathname: database }).href;
await sql(serverUrl, `CREATE DATABASE ${database}`);
const servers = process.argv.slice(2).map((argument) => ({
  name: argument.slice(0, argument.indexOf("=")),
  command: argument.slice(argument.indexOf("=") + 1).split(" "),
}));
try {
  await Promise.all(servers.map(start));
  await demo();
} finally {
  await Promise.all(servers.map(stop));
  await sql(serverUrl, `DROP DATABASE ${database} WITH (FORCE)`);
}

async function demo() {
  const pool = new pg.Pool({ connectionString: url });
  const ak = new AgentKey({ pool });
  try {
    await tell(ak, pool);
  } finally {
    await ak.close();
    await pool.end();
  }
}

async function tell(ak, pool) {
  const { key, id } = await ak.create({
    accountId: "acme",
    name: "research agents",
    scopes: ["search"],
    budgetCents: BUDGET_CENTS,
    budgetPeriod: "day",
    expiresIn: "1h",
    delegatedBy: "alice@example.com",
  });
  await ak.create({ parent: id, name: "a colleague's agent", budgetCents: 100 });
  console.log(`Alice gives her agents one key: ${BUDGET_CENTS} cents a day, to search, for an hour.`);
  console.log(`${WORKERS} workers search at ${servers.map((s) => s.name).join(", ")} at once, for 1 to ${DEAREST_CENTS} cents each time.\n`);

  const tally = new Map(servers.map((server) => [server.name, { granted: 0, cents: 0, refused: 0 }]));
  await Promise.all(Array.from({ length: WORKERS }, (_, worker) => spend(worker, key, tally)));
  for (const [name, { granted, cents, refused }] of tally) {
    console.log(`  ${name.padEnd(8)} ${String(granted).padStart(3)} searches served, ${String(cents).padStart(3)} cents; ${refused} refused`);
  }
  const granted = [...tally.values()].reduce((sum, { cents }) => sum + cents, 0);
  // A server may record what a search cost after it has answered. Until then that is held.
  let row;
  do {
    const { rows } = await pool.query("SELECT budget_used_cents AS used, budget_reserved_cents AS held FROM sdk_api_keys WHERE id = $1", [id]);
    row = rows[0];
  } while (Number(row.held) > 0);
  console.log(`\n  served           ${granted} cents\n  in the table     ${row.used} cents\n  budget           ${BUDGET_CENTS} cents`);

  const door = servers.find((server) => server.name === "FastAPI") ?? servers[0];
  const why = (await get(door, "/sdk-keys/me", key)).explanation;
  const { budgetCents, budgetUsedCents, budgetResetAt } = why.limits[0];
  console.log(`\nAn agent asks ${door.name} why: ${why.reason}, ${budgetUsedCents} of ${budgetCents} cents are used until ${budgetResetAt}.`);
  console.log(`It asks for ${MORE_CENTS} cents more, with its own key, and Alice approves for ${BOOST_SECONDS} seconds on the command line.`);
  const { id: request } = await ask(door, key, { cents: MORE_CENTS, for: "1h", reason: "the archive has more pages than expected" });
  await agentkey("requests");
  await agentkey("approve", String(request), "--by", "alice@example.com", "--for", `${BOOST_SECONDS}s`);
  const more = new Map(servers.map((server) => [server.name, { granted: 0, cents: 0, refused: 0 }]));
  await Promise.all(Array.from({ length: WORKERS }, (_, worker) => spend(worker, key, more)));
  const grantedMore = [...more.values()].reduce((sum, { cents }) => sum + cents, 0);
  console.log(`\nThey go on, and stop after ${grantedMore} cents more.`);
  await agentkey("explain", String(id));
  const { budgetBoostUntil } = await ak.get(id);
  console.log(`\nThe increase is over at ${budgetBoostUntil}: waiting for that ...`);
  let me;
  do {
    await sleep(500);
    me = await get(door, "/sdk-keys/me", key);
  } while (me.budgetCents !== BUDGET_CENTS);
  const late = await search(door, key, 1);
  console.log(`It is over. The budget is ${me.budgetCents} cents again, and ${door.name} answers ${late.status} ${late.error}.`);

  await ak.revoke(id);
  const answers = await Promise.all(servers.map((server) => search(server, key, 1)));
  console.log(`\nAlice revokes the key: ${servers.map((s, i) => `${s.name} answers ${answers[i].status} ${answers[i].error}`).join(", ")}.`);
  console.log("\nWhat the command line shows of it: the key, the tree, the ledger, what was spent.");
  await agentkey("show", String(id));
  await agentkey("list", "--account", "acme");
  await agentkey("events", "--key", String(id), "--limit", "12");
  await agentkey("usage", String(id));
  await agentkey("verify");
  if (granted !== BUDGET_CENTS || grantedMore !== MORE_CENTS || Number(row.used) !== BUDGET_CENTS || late.status !== 429 || answers.some((a) => a.status !== 401)) {
    throw new Error("the budget was not kept");
  }
  console.log("The budget was kept, to the cent.");
}

/** Runs the program of the npm package. */
async function agentkey(...args) {
  console.log(`\n$ npx agentkey ${args.join(" ")}`);
  const program = new URL("express/node_modules/agentkey/dist/cli.js", import.meta.url).pathname;
  const child = spawn(process.execPath, [program, ...args], { env: { ...process.env, DATABASE_URL: url }, stdio: ["ignore", "inherit", "inherit"] });
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`agentkey ${args[0]} ended with ${code}`);
}

/** Searches at one server after the other, ever cheaper, until a cent is too much. */
async function spend(worker, key, tally) {
  let turn = worker;
  for (let cents = 1 + ((worker * 5) % DEAREST_CENTS); cents > 0; turn++) {
    const server = servers[turn % servers.length];
    const mine = tally.get(server.name);
    const answer = await search(server, key, cents);
    if (answer.status === 200) {
      mine.granted++;
      mine.cents += cents;
    } else if (answer.status === 429) {
      mine.refused++;
      cents--;
    } else {
      throw new Error(`${server.name} answered ${answer.status}: ${JSON.stringify(answer)}`);
    }
  }
}

async function search(server, key, cents) {
  const headers = { authorization: `Bearer ${key}` };
  const answer = await fetch(`http://127.0.0.1:${server.port}/search?limit=${cents}`, { headers });
  return { status: answer.status, ...(await answer.json()) };
}

async function get(server, path, key) {
  const answer = await fetch(`http://127.0.0.1:${server.port}${path}`, { headers: { authorization: `Bearer ${key}` } });
  if (answer.status !== 200) throw new Error(`${server.name} answered ${answer.status}: ${await answer.text()}`);
  return answer.json();
}

/** Asks for more budget. */
async function ask(server, key, wanted) {
  const answer = await fetch(`http://127.0.0.1:${server.port}/sdk-keys/increases`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify(wanted),
  });
  if (answer.status !== 201) throw new Error(`${server.name} answered ${answer.status}: ${await answer.text()}`);
  return answer.json();
}

async function start(server) {
  server.port = await freePort();
  const [program, ...rest] = server.command;
  const env = { ...process.env, DATABASE_URL: url, PORT: String(server.port) };
  server.process = spawn(program, rest, { env, stdio: ["ignore", "pipe", "inherit"] });
  server.ended = once(server.process, "exit");
  const line = once(createInterface({ input: server.process.stdout }), "line");
  const ended = server.ended.then(([code]) => Promise.reject(new Error(`${server.name} ended with ${code}`)));
  const [text] = await Promise.race([line, ended, once(server.process, "error").then(([error]) => Promise.reject(error))]);
  ended.catch(() => {}); // from here on it ends when it is stopped
  console.log(`${server.name}: ${text}`);
}

async function stop(server) {
  if (!server.process?.pid || server.process.exitCode !== null) return;
  server.process.kill("SIGTERM");
  await server.ended;
}

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

async function sql(connectionString, text) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  await client.query(text);
  await client.end();
}

/** The packages of the Express example. */
function packages() {
  const require = createRequire(new URL("express/package.json", import.meta.url));
  return { AgentKey: require("agentkey").AgentKey, pg: require("pg") };
}

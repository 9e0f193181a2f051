// The code of docs/alarms.md: compiled under `strict` as it stands, and run.
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { TestDatabase } from "./support/database.js";

const here = fileURLToPath(new URL("..", import.meta.url));
const page = readFileSync(`${here}/../docs/alarms.md`, "utf8");
const [THRESHOLDS, NOTICES, CURSOR, CALLBACK, WEBHOOKS, ...others] = [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!);

/** The examples, each a function, and what makes alarms. */
const PROGRAM = `
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout } from "node:timers/promises";
import { AgentKey, type LedgerEvent } from "agentkey";
import pg from "pg";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const printed: unknown[][] = [];
const delivered: string[] = [];
const handled: LedgerEvent[] = [];
let running = true;

function thresholds() {
  ${THRESHOLDS}
  return ak;
}
function notices() {
  ${NOTICES}
  return ak;
}
async function cursor(ak: AgentKey) {
  const load = async () => 0;
  const handle = async (event: LedgerEvent) => void handled.push(event);
  const save = async (id: number) => id;
  ${CURSOR}
  return after;
}
function callback(ak: AgentKey) {
  const console = { log: (...said: unknown[]) => void printed.push(said) };
  ${CALLBACK}
  return alarms;
}
async function webhooks(ak: AgentKey) {
  ${WEBHOOKS}
}

const receiver = createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  delivered.push(JSON.parse(body).type);
  running = false;
  response.writeHead(204).end();
});
await once(receiver.listen(0, "127.0.0.1"), "listening");
process.env.PAGER_URL = "http://127.0.0.1:" + (receiver.address() as AddressInfo).port;
process.env.PAGER_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const ak = thresholds();
await ak.migrate();
const alarms = callback(ak);
const delivering = webhooks(ak);
// Callback and webhook begin with what comes from now on, whenever that is.
while (running || printed.length === 0) {
  const { key } = await ak.create({ accountId: "a", budgetCents: 10 });
  await ak.trackUsage(key, { costCents: 5 });
  // Between two looks at a condition, whose time is bounded.
  await setTimeout(50);
}
await delivering;
alarms.close();
await cursor(ak);
const watching = notices();
await pool.query("UPDATE sdk_api_keys SET created_at = now() - interval '9 days', expires_at = now() + interval '2 days' WHERE id = 1");
const expiring = await watching.events({ after: 0, alarms: true });
console.log(JSON.stringify([printed[0]?.[1], delivered[0], handled[0]?.metadata, expiring.some(({ kind }) => kind === "expiring")]));
await watching.close();
await ak.close();
await pool.end();
receiver.closeAllConnections();
receiver.close();
`;

test("the examples do what the page says", async () => {
  expect(others).toEqual([]);
  const directory = `${here}/.alarms-doc`;
  mkdirSync(directory, { recursive: true });
  const db = await TestDatabase.create();
  try {
    writeFileSync(`${directory}/alarms.mts`, PROGRAM);
    const options = ["--strict", "--skipLibCheck", "--target", "es2022", "--module", "node16", "--moduleResolution", "node16"];
    const tsc = `${here}/node_modules/.bin/tsc`;
    await promisify(execFile)(tsc, [...options, "--esModuleInterop", "--types", "node", "alarms.mts"], { cwd: directory }).catch((error) => {
      throw new Error(error.stdout);
    });
    const env = { ...process.env, DATABASE_URL: db.url };
    const { stdout } = await promisify(execFile)(process.execPath, ["alarms.mjs"], { cwd: directory, env, timeout: 60_000 });
    expect(JSON.parse(stdout)).toEqual(["threshold", "agentkey.threshold", { budgetCents: 10, threshold: 0.5 }, true]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
    await db.drop();
  }
}, 120_000);

// One service on Express, with the check of keys that is named: see run.mjs. It says its port and its keys on stdout.
//   DATABASE_URL=... node server.mjs guard
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { AgentKey, agentKeyMiddleware } from "../../bindings-node/dist/index.mjs";

const require = createRequire(new URL("../../bindings-node/package.json", import.meta.url));
const express = require("express");
const pg = require("pg");
const KEYS = 200;
const BUDGET_CENTS = 2_000_000_000;

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
const ak = new AgentKey({ pool });
const presented = (req) => req.headers.authorization?.slice("Bearer ".length) ?? "";

async function agentKeys() {
  await ak.migrate();
  const made = Array.from({ length: KEYS }, () => ak.create({ accountId: "bench", budgetCents: BUDGET_CENTS }));
  return (await Promise.all(made)).map(({ key }) => key);
}

/** What an application would write by hand: one SELECT, and one UPDATE that nobody waits for. */
async function byHand(req, res, next) {
  const { rows } = await pool.query({
    name: "select",
    text: `SELECT id, account_id, scopes, budget_cents, budget_used_cents, budget_period, budget_reset_at, expires_at, revoked_at
      FROM sdk_api_keys WHERE key_hash = $1`,
    values: [createHash("sha256").update(presented(req)).digest("hex")],
  });
  const [row] = rows;
  const isLive = row && !row.revoked_at && !(row.expires_at < new Date() && row.expires_at);
  if (!isLive || Number(row.budget_used_cents) >= Number(row.budget_cents)) return void res.status(401).end();
  pool.query({ name: "touch", text: "UPDATE sdk_api_keys SET last_used_at = now() WHERE id = $1", values: [row.id] }).catch(console.error);
  next();
}

/** One guarded UPDATE before the handler. */
async function chargeByHand(req, res, next) {
  const { rowCount } = await pool.query({
    name: "charge",
    text: `UPDATE sdk_api_keys SET budget_used_cents = budget_used_cents + 1
      WHERE key_hash = $1 AND revoked_at IS NULL AND budget_used_cents + 1 <= budget_cents`,
    values: [createHash("sha256").update(presented(req)).digest("hex")],
  });
  if (rowCount !== 1) return void res.status(401).end();
  next();
}

/** better-auth's plugin for API keys, with a number of uses that remain in place of a budget. */
async function betterAuthKeys() {
  const [{ betterAuth }, { apiKey }, { getMigrations }] = await Promise.all([
    import("better-auth"),
    import("@better-auth/api-key"),
    import("better-auth/db/migration"),
  ]);
  const auth = betterAuth({
    baseURL: "http://localhost",
    database: pool,
    emailAndPassword: { enabled: true },
    logger: { disabled: true },
    plugins: [apiKey({ rateLimit: { enabled: false } })],
    secret: "only for a bench, only for a bench, 0123456789",
    telemetry: { enabled: false },
  });
  await (await getMigrations(auth.options)).runMigrations();
  const { user } = await auth.api.signUpEmail({ body: { email: `${process.pid}@example.com`, name: "bench", password: "only for a bench" } });
  const made = Array.from({ length: KEYS }, () => auth.api.createApiKey({ body: { userId: user.id, remaining: BUDGET_CENTS } }));
  const keys = (await Promise.all(made)).map(({ key }) => key);
  const check = async (req, res, next) => {
    const { valid, error } = await auth.api.verifyApiKey({ body: { key: presented(req) } });
    if (!valid) return void res.status(401).json(error);
    next();
  };
  return [keys, check];
}

const CHECKS = {
  none: async () => [["none"], (_req, _res, next) => next()],
  "by hand": async () => [await agentKeys(), byHand],
  "charge by hand": async () => [await agentKeys(), chargeByHand],
  guard: async () => [await agentKeys(), agentKeyMiddleware(ak)],
  "guard, holds": async () => [await agentKeys(), agentKeyMiddleware(ak, { reserveCents: 1 })],
  "better-auth": betterAuthKeys,
};

const [keys, check] = await CHECKS[process.argv[2]]();
const app = express();
app.get("/", check, (_req, res) => void res.json({ ok: true }));
const server = app.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port, keys })));
process.once("SIGTERM", () => {
  server.close(async () => {
    await ak.close();
    await pool.end();
  });
  server.closeAllConnections();
});

// A guarded service on Express 4, Express 5 or Fastify with middie, which says on stdout what its requests spent: see
// run.mjs. Its requests carry a plan in their query.
//   DATABASE_URL=... node server.mjs express-4
import { createRequire } from "node:module";
import { AgentKey, agentKeyMiddleware } from "../../bindings-node/dist/index.mjs";

const require = createRequire(new URL("../../bindings-node/package.json", import.meta.url));
const pg = require("pg");
const GRACE_MS = 1000;

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 });
pool.on("error", () => {}); // the database is restarted under it
const ak = new AgentKey({ pool, ledger: true, onError: (message) => say({ told: message }) });

const planOf = (req) => (req.plan ??= JSON.parse(new URL(req.url, "http://localhost").searchParams.get("plan")));

/** What the handler has counted so far, once it ran and where it leaves the telling to `cost`. */
function cost(req, _res, { status, grant }) {
  const plan = planOf(req);
  const counted = plan.says === "amount" ? req.counted : undefined;
  const isError = status !== undefined && status >= 400;
  const estimate = plan.isFlat ? 0 : plan.estimate;
  const microcents = plan.says === "fails" && req.counted !== undefined ? estimate : (counted ?? (isError ? 0 : estimate));
  say({ spent: microcents, reservation: req.agentKeyReservation?.reservationId, key: grant.id });
  if (plan.says === "fails" && req.counted !== undefined) throw new Error("the price is not known");
  return counted === undefined ? undefined : { microcents: counted };
}

function count(req) {
  const plan = planOf(req);
  req.counted += plan.each;
  if (plan.says !== "charges") return;
  req.agentKey.charge({ microcents: plan.each });
  say({ spent: plan.each, reservation: req.agentKeyReservation?.reservationId, key: req.agentKey.id });
}

/** Sends a response in parts, each of which costs something, until its client has left. */
async function handle(req, res) {
  const plan = planOf(req);
  say({ ran: req.agentKeyReservation?.reservationId ?? null });
  req.counted = 0;
  if (plan.throws) {
    count(req);
    throw new Error("thrown on purpose");
  }
  res.statusCode = plan.status;
  for (let part = 0; part < plan.parts && !res.destroyed; part++) {
    count(req);
    res.write("x".repeat(plan.bytes));
    await new Promise((resolve) => setTimeout(resolve, plan.pauseMs)); // a model that thinks
  }
  res.end();
}

const holding = agentKeyMiddleware(ak, { reserveCents: (req) => ({ microcents: planOf(req).estimate }), reserveTtl: "10s", cost });
const recording = agentKeyMiddleware(ak, { cost });

const express = (name) => async () => {
  const app = require(name)();
  app.get("/held", holding, (req, res, next) => void handle(req, res).catch(next));
  app.get("/flat", recording, (req, res, next) => void handle(req, res).catch(next));
  app.use("/missing", holding);
  app.use((_error, _req, res, _next) => (res.headersSent ? res.destroy() : res.status(500).end()));
  return new Promise((resolve) => {
    const server = app.listen(0, "127.0.0.1", () => resolve(server));
  });
};

const SERVERS = {
  "express-4": express("express-4"),
  "express-5": express("express"),
  async fastify() {
    const app = require("fastify")();
    await app.register(require("@fastify/middie"));
    app.use(["/held", "/missing"], holding);
    app.use("/flat", recording);
    const handler = async ({ raw }, reply) => {
      if (planOf(raw).throws) return handle(raw, reply.raw);
      reply.hijack();
      await handle(raw, reply.raw);
    };
    app.get("/held", handler);
    app.get("/flat", handler);
    await app.listen({ port: 0, host: "127.0.0.1" });
    return app.server;
  },
};

const server = await SERVERS[process.argv[2]]();
process.once("SIGTERM", async () => {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeIdleConnections();
  setTimeout(() => server.closeAllConnections(), GRACE_MS).unref();
  await closed;
  await ak.close();
  await pool.end();
});
say({ port: server.address().port });

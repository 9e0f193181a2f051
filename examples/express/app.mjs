// An API for agents: a key signs itself up, searches until its budget is spent, and its owner may revoke it.
// A search costs a cent for each result that it asks for.
//   DATABASE_URL=... PORT=3000 node app.mjs
import { AgentKey, agentKeyMiddleware, createAgentKeyRoutes, presentedKey } from "agentkey";
import express from "express";
import pg from "pg";

export async function start(port = 3000) {
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
  pool.on("error", (error) => console.error(error.message));
  const ak = new AgentKey({ pool, validScopes: ["search"], ledger: true });
  await ak.migrate();

  const app = express();
  app.use(
    createAgentKeyRoutes(ak, {
      signupScopes: ["search"],
      signupBudget: { maxCents: 50, period: "day" },
      signupMaxExpiresIn: "7d",
      signupRateLimit: 100,
    }),
  );
  app.get("/search", agentKeyMiddleware(ak, { scope: "search" }), async (req, res) => {
    const limit = Number(req.query.limit ?? 3);
    if (!Number.isInteger(limit) || limit < 1 || limit > 10) return res.status(400).json({ error: "limit must be 1 to 10" });
    const usage = await ak.trackUsage(presentedKey(req), { costCents: limit });
    if (!usage.success) return res.status(429).json({ error: usage.reason });
    res.json({ found: Array(limit).fill("a result"), remainingCents: usage.budgetRemainingCents });
  });

  const server = await new Promise((resolve) => {
    const listening = app.listen(port, () => resolve(listening));
  });
  const stop = async () => {
    await new Promise((resolve) => server.close(resolve));
    await ak.close();
    await pool.end();
  };
  return { ak, port: server.address().port, stop };
}

if (import.meta.url === new URL(process.argv[1], "file:").href) {
  const { port } = await start(Number(process.env.PORT ?? 3000));
  console.log(`listening on ${port}`);
}

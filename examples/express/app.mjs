// An API for agents: a key signs itself up, searches until its budget is spent, and its owner may revoke it.
//   DATABASE_URL=... node app.mjs
import { AgentKey, agentKeyMiddleware, createAgentKeyRoutes } from "agentkey";
import express from "express";
import pg from "pg";

const CENTS_PER_SEARCH = 3;

export async function start(port = 3000) {
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
  pool.on("error", (error) => console.error(error.message));
  const ak = new AgentKey({ pool, validScopes: ["search"] });
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
    const rawKey = req.headers.authorization.split(/\s+/)[1];
    const usage = await ak.trackUsage(rawKey, { costCents: CENTS_PER_SEARCH });
    if (!usage.success) return res.status(429).json({ error: usage.reason });
    res.json({ found: [], remainingCents: usage.budgetRemainingCents });
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

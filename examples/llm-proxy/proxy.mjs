// A proxy before an OpenAI-compatible model server. Agents come with keys of yours, whose budgets hold: the most that a
// call can cost is reserved before it is passed on, and what its tokens really cost is settled after.
//   DATABASE_URL=... MODEL_URL=http://127.0.0.1:4000/v1 PORT=3000 node proxy.mjs
import { Readable } from "node:stream";
import { AgentKey, agentKeyMiddleware } from "agentkey";
import express from "express";
import pg from "pg";

/** Micro-cents for a token: dollars per million tokens times 100. */
const PRICES = {
  small: { input: 15, output: 60 },
  large: { input: 250, output: 1_000 },
};
const MOST_TOKENS = 4_096;

/** A refusal in the API's own form. */
function refuse(res, status, code, message) {
  res.status(status).json({ error: { message, type: status === 429 ? "insufficient_quota" : "invalid_request_error", code } });
}

/** No text has more tokens than bytes. */
const bytesOf = (messages) => Buffer.byteLength(JSON.stringify(messages));

/** What was used, as far as a stream tells: its last chunk says it; a stream that ends before costs a token for each chunk. */
function meter(promptTokens) {
  let rest = "";
  const counted = { prompt_tokens: promptTokens, completion_tokens: 0 };
  let told;
  return {
    read(text) {
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: {")) continue;
        const { choices = [], usage } = JSON.parse(line.slice("data: ".length));
        if (choices.length > 0) counted.completion_tokens++;
        told = usage ?? told;
      }
    },
    usage: () => told ?? counted,
  };
}

export async function start({ port = 3000, modelUrl = process.env.MODEL_URL, apiKey = process.env.MODEL_API_KEY } = {}) {
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
  pool.on("error", (error) => console.error(error.message));
  const ak = new AgentKey({ pool, validScopes: ["chat"], ledger: true });
  await ak.migrate();

  const app = express();
  app.use(express.json({ limit: "1mb" }));
  app.post("/v1/chat/completions", agentKeyMiddleware(ak, { scope: "chat" }), async (req, res) => {
    const { model, messages, max_tokens: most = 256, stream = false } = req.body ?? {};
    const price = Object.hasOwn(PRICES, model) ? PRICES[model] : undefined;
    if (!price) return refuse(res, 404, "model_not_found", `there is no model ${model}`);
    if (!Array.isArray(messages)) return refuse(res, 400, "invalid_messages", "messages must be an array");
    if (!Number.isInteger(most) || most < 1 || most > MOST_TOKENS) {
      return refuse(res, 400, "invalid_max_tokens", `max_tokens must be 1 to ${MOST_TOKENS}`);
    }
    const costOf = (usage) => usage.prompt_tokens * price.input + usage.completion_tokens * price.output;
    const rawKey = req.headers.authorization.split(/\s+/)[1];
    const held = await ak.reserve(rawKey, {
      costMicrocents: costOf({ prompt_tokens: bytesOf(messages), completion_tokens: most }),
      // Of the proxy's own making for each request; a client that repeats one may send its own.
      idempotencyKey: req.get("idempotency-key"),
      metadata: { model },
    });
    if (!held.success) {
      const resetsAt = held.limit?.resetsAt;
      if (resetsAt) res.setHeader("retry-after", Math.max(1, Math.ceil((Date.parse(resetsAt) - Date.now()) / 1000)));
      return refuse(res, 429, held.reason, "the budget has no room for this call");
    }
    let usage = { prompt_tokens: 0, completion_tokens: 0 };
    const left = new AbortController();
    res.once("close", () => left.abort());
    try {
      const answer = await fetch(`${modelUrl}/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", ...(apiKey && { authorization: `Bearer ${apiKey}` }) },
        body: JSON.stringify({ ...req.body, max_tokens: most, ...(stream && { stream_options: { include_usage: true } }) }),
        signal: left.signal,
      });
      res.status(answer.status).setHeader("content-type", answer.headers.get("content-type") ?? "application/json");
      if (!answer.ok || !stream) {
        const body = await answer.text();
        if (answer.ok) usage = JSON.parse(body).usage;
        return res.end(body);
      }
      const tokens = meter(bytesOf(messages));
      try {
        for await (const chunk of Readable.fromWeb(answer.body).setEncoding("utf8")) {
          tokens.read(chunk);
          res.write(chunk);
        }
        res.end();
      } finally {
        usage = tokens.usage();
      }
    } catch (error) {
      if (left.signal.aborted) return;
      console.error(error);
      if (res.headersSent) res.destroy();
      else refuse(res, 502, "model_unavailable", "the model server failed");
    } finally {
      // What was used is spent, whoever still listens.
      await ak
        .settle(held.reservationId, { costMicrocents: costOf(usage) })
        .catch((error) => console.error("not settled, the reservation will expire:", error));
    }
  });

  const server = await new Promise((resolve) => {
    const listening = app.listen(port, "127.0.0.1", () => resolve(listening));
  });
  const stop = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await ak.close();
    await pool.end();
  };
  return { ak, port: server.address().port, stop };
}

if (import.meta.url === new URL(process.argv[1], "file:").href) {
  const { ak, port } = await start({ port: Number(process.env.PORT ?? 3000) });
  const { key } = await ak.create({ accountId: "demo", scopes: ["chat"], budgetCents: 100, budgetPeriod: "day", expiresIn: "1d" });
  console.log(`listening on ${port}; a key with 100 cents a day: ${key}`);
}

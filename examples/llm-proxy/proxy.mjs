// A proxy before an OpenAI-compatible model server. Agents come with keys of yours, whose budgets hold: the most that a
// call can cost is reserved before it is passed on, and what its tokens really cost is settled after.
//   DATABASE_URL=... MODEL_URL=http://127.0.0.1:4000/v1 PORT=3000 node proxy.mjs
import { Readable } from "node:stream";
import { AgentKey, presentedKey } from "agentkey";
import express from "express";
import pg from "pg";

/** The models that may be asked for. Micro-cents for a token: dollars per million tokens times 100. */
const PRICES = {
  small: { input: 15, output: 60 },
  large: { input: 250, output: 1_000 },
};
const MOST_TOKENS = 4_096;
const MOST_CHOICES = 4;

/**
 * What else may be asked for. Anything that is not known here may cost what nobody has counted: images, tools, a better
 * service tier.
 */
const HARMLESS = ["temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "response_format", "user"];

/** What is wrong with a request: a message for its sender. */
class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

/** In the API's own form. */
function refuse(res, { status, code, message }) {
  res.status(status).json({ error: { message, type: status === 429 ? "insufficient_quota" : "invalid_request_error", code } });
}

function count(name, value, most) {
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new Refused(400, `invalid_${name}`, `${name} must be a whole number from 1 to ${most}`);
}

const isText = (content) =>
  typeof content === "string" ||
  (Array.isArray(content) && content.every((part) => part?.type === "text" && typeof part.text === "string"));

/** What is passed on for a request, and the most that it can cost. */
function bounded(request) {
  const { model, messages, max_tokens, max_completion_tokens, n = 1, stream = false, stream_options, ...others } = request ?? {};
  const price = typeof model === "string" && Object.hasOwn(PRICES, model) ? PRICES[model] : undefined;
  if (!price) throw new Refused(404, "model_not_found", `there is no model ${JSON.stringify(model)?.slice(0, 100)}`);
  if (!Array.isArray(messages) || !messages.every((message) => isText(message?.content))) {
    throw new Refused(400, "invalid_messages", "messages must be an array of messages with text as their content");
  }
  const unknown = Object.keys(others).find((name) => !HARMLESS.includes(name));
  if (unknown !== undefined) throw new Refused(400, "unsupported_parameter", `${unknown.slice(0, 100)} is not supported here`);
  if (max_tokens !== undefined && max_completion_tokens !== undefined) {
    throw new Refused(400, "invalid_max_tokens", "give max_tokens or max_completion_tokens");
  }
  if (typeof stream !== "boolean") throw new Refused(400, "invalid_stream", "stream must be true or false");
  const limit = max_completion_tokens === undefined ? "max_tokens" : "max_completion_tokens";
  const most = count(limit, max_completion_tokens ?? max_tokens ?? 256, MOST_TOKENS);
  const asked = {
    ...others,
    model,
    messages,
    [limit]: most,
    n: count("n", n, MOST_CHOICES),
    ...(stream && { stream, stream_options: { include_usage: true } }),
  };
  // No text has more tokens than bytes. All of the request counts, for a schema of the response is read, too.
  const used = { prompt_tokens: Buffer.byteLength(JSON.stringify(asked)), completion_tokens: n * most };
  const costOf = (usage) => usage.prompt_tokens * price.input + usage.completion_tokens * price.output;
  return { asked, stream, most: used, costOf };
}

/** What a stream used: its last chunk says it. One that ends before used at most a token for each byte of its text. */
function meter(most) {
  let rest = "";
  let bytes = 0;
  let told;
  const read = (line) => {
    if (!line.startsWith("data: {")) return;
    const { choices = [], usage } = JSON.parse(line.slice("data: ".length));
    for (const { delta } of choices) bytes += Buffer.byteLength(`${delta?.content ?? ""}${delta?.refusal ?? ""}`);
    told = usage ?? told;
  };
  return {
    read(text) {
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      lines.forEach(read);
    },
    usage: () => told ?? { ...most, completion_tokens: Math.min(bytes, most.completion_tokens) },
  };
}

/** The status of a refused key, and what it may do about it. */
function refusal(res, { reason, limit }) {
  const resetsAt = limit?.resetsAt;
  switch (reason) {
    case "budget_exceeded":
      if (resetsAt) res.setHeader("retry-after", Math.max(1, Math.ceil((Date.parse(resetsAt) - Date.now()) / 1000)));
      return { status: 429, code: reason, message: "the budget has no room for this call" };
    case "insufficient_scope":
      return { status: 403, code: reason, message: "the key may not chat" };
    case "already_settled":
    case "idempotency_conflict":
      return { status: 409, code: reason, message: "the idempotency key was used before" };
    default:
      return { status: 401, code: reason, message: "the key is not valid" };
  }
}

export async function start({ port = 3000, modelUrl = process.env.MODEL_URL, apiKey = process.env.MODEL_API_KEY } = {}) {
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
  pool.on("error", (error) => console.error(error.message));
  const ak = new AgentKey({ pool, validScopes: ["chat"], ledger: true });
  await ak.migrate();

  const app = express();
  app.use(express.json({ limit: "1mb" }));
  app.post("/v1/chat/completions", async (req, res) => {
    let call;
    try {
      call = bounded(req.body);
    } catch (error) {
      if (error instanceof Refused) return refuse(res, error);
      throw error;
    }
    const { asked, stream, most, costOf } = call;
    // One statement: who it is, whether it may, whether there is room.
    const held = await ak.reserve(presentedKey(req) ?? "", {
      costMicrocents: costOf(most),
      scope: "chat",
      // A client that repeats a request under one key starts it once.
      idempotencyKey: req.get("idempotency-key"),
      metadata: { model: asked.model },
    });
    if (!held.success) return refuse(res, refusal(res, held));
    if (held.replayed) return refuse(res, { status: 409, code: "in_progress", message: "this request is under way" });
    // Where nothing is known, the most that it can have cost.
    let usage = most;
    const left = new AbortController();
    // A stream that nobody reads is ended. An answer comes at once or not at all, and only its end tells what it cost.
    if (stream) res.once("close", () => left.abort());
    try {
      const answer = await fetch(`${modelUrl}/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", ...(apiKey && { authorization: `Bearer ${apiKey}` }) },
        body: JSON.stringify(asked),
        signal: left.signal,
      });
      res.status(answer.status).setHeader("content-type", answer.headers.get("content-type") ?? "application/json");
      if (!answer.ok) usage = undefined;
      if (!answer.ok || !stream) {
        const body = await answer.text();
        if (answer.ok) usage = JSON.parse(body).usage ?? usage;
        return res.end(body);
      }
      const tokens = meter(most);
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
      // What was never sent cost nothing.
      if (error.cause?.code === "ECONNREFUSED") usage = undefined;
      console.error(error);
      if (res.headersSent) res.destroy();
      else refuse(res, { status: 502, code: "model_unavailable", message: "the model server failed" });
    } finally {
      // What was used is spent, whoever still listens.
      const ended = usage ? ak.settle(held.reservationId, { costMicrocents: costOf(usage) }) : ak.release(held.reservationId);
      await ended.catch((error) => console.error("not settled, the reservation will expire:", error));
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

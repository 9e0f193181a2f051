// A model server that is none: it answers with as many words as it may, a token each, in the form of OpenAI's API.
//   PORT=4000 node model.mjs
import express from "express";

const WORDS = "the quick brown fox jumps over the lazy dog and goes on".split(" ");
const tokensOf = (messages) => messages.map(({ content }) => content.split(/\s+/).length).reduce((sum, n) => sum + n, 0);

/** `pause`: milliseconds between two tokens of a stream. */
export async function start(port = 4000, pause = 0) {
  const app = express();
  // What each call used, as a bill of the vendor's would say it.
  const served = [];
  app.use(express.json());
  app.post("/v1/chat/completions", async (req, res) => {
    const { model, messages, max_completion_tokens, max_tokens, n = 1, stream = false } = req.body;
    const most = max_completion_tokens ?? max_tokens ?? 1_000_000;
    const usage = { prompt_tokens: tokensOf(messages), completion_tokens: n * most, total_tokens: tokensOf(messages) + n * most };
    served.push({ model, ...usage });
    const words = Array.from({ length: most }, (_, n) => WORDS[n % WORDS.length]);
    const common = { id: "chatcmpl-1", created: 0, model };
    if (!stream) {
      const message = { role: "assistant", content: words.join(" ") };
      const choices = Array.from({ length: n }, (_, index) => ({ index, message, finish_reason: "length" }));
      return res.json({ ...common, object: "chat.completion", choices, usage });
    }
    res.setHeader("content-type", "text/event-stream");
    const send = (chunk) => res.write(`data: ${JSON.stringify({ ...common, object: "chat.completion.chunk", ...chunk })}\n\n`);
    for (const word of words) {
      if (res.destroyed) return;
      send({ choices: [{ index: 0, delta: { content: `${word} ` }, finish_reason: null }] });
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
    }
    if (req.body.stream_options?.include_usage) send({ choices: [], usage });
    res.end("data: [DONE]\n\n");
  });
  const server = await new Promise((resolve) => {
    const listening = app.listen(port, "127.0.0.1", () => resolve(listening));
  });
  const stop = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { port: server.address().port, served, stop };
}

if (import.meta.url === new URL(process.argv[1], "file:").href) {
  const { port } = await start(Number(process.env.PORT ?? 4000), 20);
  console.log(`a model listens on ${port}`);
}

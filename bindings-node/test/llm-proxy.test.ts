// examples/llm-proxy: real HTTP on both sides, budgets to the micro-cent.
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestDatabase, eventually } from "./support/database.js";

const here = fileURLToPath(new URL("..", import.meta.url));
// Within the package, so that its import of the package finds this one.
const directory = `${here}/.llm-proxy`;
let db: TestDatabase;
let model: any;
let slowModel: any;
let startProxy: (options: object) => Promise<any>;
let proxy: any;
beforeAll(async () => {
  mkdirSync(directory, { recursive: true });
  for (const file of ["model.mjs", "proxy.mjs"]) copyFileSync(`${here}/../examples/llm-proxy/${file}`, `${directory}/${file}`);
  db = await TestDatabase.create();
  const { start } = await import(/* @vite-ignore */ `${directory}/model.mjs`);
  model = await start(0);
  slowModel = await start(0, 20);
  ({ start: startProxy } = await import(/* @vite-ignore */ `${directory}/proxy.mjs`));
  const server = process.env.DATABASE_URL;
  process.env.DATABASE_URL = db.url;
  proxy = await startProxy({ port: 0, modelUrl: `http://127.0.0.1:${model.port}/v1` });
  process.env.DATABASE_URL = server;
});
afterAll(async () => {
  await proxy.stop();
  await model.stop();
  await slowModel.stop();
  await db.drop();
  rmSync(directory, { recursive: true, force: true });
});

const messages = [{ role: "user", content: "one two three" }];
const ask = (key: string, body: object) =>
  fetch(`http://127.0.0.1:${proxy.port}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "small", messages, ...body }),
  });
const newKey = async (budgetCents: number) =>
  proxy.ak.create({ accountId: "a", scopes: ["chat"], budgetCents, budgetPeriod: "day" }) as Promise<{ key: string; id: number }>;
/** Once nothing is held any more: what is used, in micro-cents. */
const used = (id: number) =>
  eventually("nothing is held any more", async () => {
    const row = `SELECT budget_used_cents * 1000000 + budget_used_microcents || ' ' || budget_reserved_cents + budget_reserved_microcents FROM sdk_api_keys WHERE id = ${id}`;
    const [microcents, held] = (await db.text(row))!.split(" ");
    return held === "0" ? { microcents: Number(microcents) } : undefined;
  }).then(({ microcents }) => microcents);

test("an answer costs what its tokens cost", async () => {
  const { key, id } = await newKey(100);
  const answer = await ask(key, { max_tokens: 20 });
  expect(((await answer.json()) as any).usage).toEqual({ prompt_tokens: 3, completion_tokens: 20, total_tokens: 23 });
  expect(await used(id)).toBe(3 * 15 + 20 * 60);
});

test("a stream costs what its last chunk says", async () => {
  const { key, id } = await newKey(100);
  const answer = await ask(key, { max_tokens: 50, stream: true });
  const text = await answer.text();
  expect(text.match(/"content"/g)).toHaveLength(50);
  expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
  expect(await used(id)).toBe(3 * 15 + 50 * 60);
});

test("a stream that its client leaves costs what came through", async () => {
  const server = process.env.DATABASE_URL;
  process.env.DATABASE_URL = db.url;
  const slow = await startProxy({ port: 0, modelUrl: `http://127.0.0.1:${slowModel.port}/v1` });
  process.env.DATABASE_URL = server;
  const { key, id } = await newKey(100);
  await new Promise<void>((resolve) => {
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    const request = httpRequest({ port: slow.port, host: "127.0.0.1", method: "POST", path: "/v1/chat/completions", headers }, (response) => {
      response.once("data", () => request.destroy());
      response.on("error", () => {});
      response.once("close", () => resolve());
    });
    request.on("error", () => {});
    request.end(JSON.stringify({ model: "large", messages, max_tokens: 4_000, stream: true }));
  });
  const microcents = await used(id);
  const prompt = Buffer.byteLength(JSON.stringify(messages)) * 250;
  expect(microcents).toBeGreaterThan(prompt);
  expect(microcents).toBeLessThan(prompt + 4_000 * 1_000);
  await slow.stop();
});

test("what does not fit never reaches the model, however many ask at once", async () => {
  const { key, id } = await newKey(3);
  // Each may cost more than two cents: one is held at a time.
  const answers = await Promise.all(Array.from({ length: 30 }, () => ask(key, { model: "large", max_tokens: 2_000 })));
  const refused = answers.filter(({ status }) => status === 429);
  expect(refused.length).toBeGreaterThanOrEqual(29);
  expect(((await refused[0]!.json()) as any).error).toMatchObject({ type: "insufficient_quota", code: "budget_exceeded" });
  expect(Number(refused[0]!.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(await used(id)).toBe((answers.length - refused.length) * (3 * 250 + 2_000 * 1_000));
  expect(await proxy.ak.verifyLedger()).toEqual([]);
});

test("what is wrong costs nothing", async () => {
  const { key, id } = await newKey(100);
  for (const [body, status] of [
    [{ model: "unknown" }, 404],
    [{ messages: "hello" }, 400],
    [{ max_tokens: 1e9 }, 400],
  ] as const) {
    expect((await ask(key, body)).status).toBe(status);
  }
  expect((await ask("ak_nobody", {})).status).toBe(401);
  await model.stop();
  expect((await ask(key, { max_tokens: 5 })).status).toBe(502);
  expect(await used(id)).toBe(0);
});

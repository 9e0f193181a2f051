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
const ask = (key: string, body: object, headers: Record<string, string> = {}) =>
  fetch(`http://127.0.0.1:${proxy.port}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
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

const PRICES: Record<string, [input: number, output: number]> = { small: [15, 60], large: [250, 1_000] };
/** What the model server would bill since some call, in micro-cents. */
const billed = (since: number) =>
  model.served
    .slice(since)
    .reduce((sum: number, u: any) => sum + u.prompt_tokens * PRICES[u.model]![0] + u.completion_tokens * PRICES[u.model]![1], 0);

test("what an attacker asks for is within the budget, or never asked", async () => {
  const { key, id } = await newKey(10);
  const since = model.served.length;
  const bodies = [
    { n: 100 },
    { n: 4, max_tokens: 4_000 },
    { max_completion_tokens: 100_000 },
    { max_completion_tokens: 4_000, max_tokens: 1 },
    { max_completion_tokens: 4_000 },
    { max_tokens: null },
    { n: "100" },
    { n: -1 },
    { stream: "yes" },
    { tools: [{ type: "function", function: { name: "f" } }] },
    { service_tier: "priority" },
    { model: "__proto__" },
    { model: ["large"] },
    { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:" } }] }] },
    { messages: [{ role: "user", content: "x".repeat(50_000) }], max_tokens: 1 },
    { response_format: { type: "json_object" }, max_tokens: 2_000 },
  ];
  const statuses: number[] = [];
  for (const model of ["large", "small"]) {
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(bodies.map((body) => ask(key, { model, max_tokens: undefined, ...body })));
      for (const answer of answers) {
        statuses.push(answer.status);
        await answer.text();
      }
    }
  }
  expect(new Set(statuses)).toEqual(new Set([200, 400, 404, 429]));
  // The bound of a call is never below what it costs: the budget holds without "one request more".
  expect(billed(since)).toBeGreaterThan(0);
  expect(billed(since)).toBeLessThanOrEqual(10_000_000);
  expect(await used(id)).toBe(billed(since));
});

test("an idempotency key starts one call", async () => {
  const { key, id } = await newKey(10);
  const since = model.served.length;
  const repeated = { "idempotency-key": "again" };
  // They are looked at one after the other, which a loaded machine must do within the 10 s that a call has.
  const answers = await Promise.all(Array.from({ length: 30 }, () => ask(key, { max_tokens: 1_000 }, repeated)));
  expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array.from({ length: 29 }, () => 409)]);
  const late = await ask(key, { max_tokens: 1_000 }, repeated);
  expect([late.status, ((await late.json()) as any).error.code]).toEqual([409, "already_settled"]);
  const other = await ask(key, { max_tokens: 999 }, repeated);
  expect([other.status, ((await other.json()) as any).error.code]).toEqual([409, "idempotency_conflict"]);
  expect(model.served.length - since).toBe(1);
  expect(await used(id)).toBe(billed(since));
});

test("keys are told what is wrong with them", async () => {
  const { key } = await proxy.ak.create({ accountId: "a", scopes: ["chat"], budgetCents: 1 });
  const idle = (await proxy.ak.create({ accountId: "a", scopes: [], budgetCents: 100 })).key;
  for (const [authorization, status, code] of [
    [`bearer   ${key} `, 200, undefined],
    [`Bearer ${idle}`, 403, "insufficient_scope"],
    ["Basic eDp5", 401, "invalid_key"],
    ["Bearer", 401, "invalid_key"],
  ] as const) {
    const answer = await ask(key, { max_tokens: 1 }, { authorization });
    expect([answer.status, ((await answer.json()) as any).error?.code]).toEqual([status, code]);
  }
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

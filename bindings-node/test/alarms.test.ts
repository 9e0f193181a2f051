// Alarms as they come, and their deliveries to webhooks.
import { type IncomingHttpHeaders, type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { AgentKey, type LedgerEvent } from "agentkey";
import pg from "pg";
import { Webhook } from "standardwebhooks";
import { afterEach, beforeEach, expect, test } from "vitest";
import { TestDatabase } from "./support/database.js";

const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEXT_SECRET = "whsec_" + Buffer.alloc(32, 7).toString("base64");

let db: TestDatabase;
let ak: AgentKey;
let pool: pg.Pool;
const servers: Server[] = [];

beforeEach(async () => {
  db = await TestDatabase.create();
  pool = new pg.Pool({ connectionString: db.url });
  pool.on("error", () => undefined);
  ak = new AgentKey({ pool, thresholds: [0.5, 1] });
  await ak.migrate();
});

afterEach(async () => {
  for (const server of servers.splice(0)) server.closeAllConnections(), server.close();
  await ak.close();
  await pool.end();
  await db.drop();
});

interface Got {
  headers: IncomingHttpHeaders;
  body: string;
}

/** A receiver that answers so; `undefined` is never. */
async function receiver(answer: () => number | undefined): Promise<{ url: string; got: Got[] }> {
  const got: Got[] = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    got.push({ headers: request.headers, body });
    const status = answer();
    if (status !== undefined) response.writeHead(status, { location: "/elsewhere" }).end("no");
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, got };
}

async function alarm(): Promise<void> {
  const { key } = await ak.create({ accountId: "a", budgetCents: 2 });
  await ak.trackUsage(key, { costCents: 1 });
}

const makeDue = () => db.run("UPDATE sdk_api_keys_deliveries SET next_at = now() WHERE dead_at IS NULL");

test("the reference library verifies what is delivered, with either of two secrets", async () => {
  const { url, got } = await receiver(() => 204);
  const hook = { name: "pager", url, secrets: [SECRET, NEXT_SECRET] };
  expect(await ak.deliver(hook)).toBe(0);
  await alarm();
  expect(await ak.deliver(hook)).toBe(1);
  expect(await ak.deliver(hook)).toBe(0);
  expect(got).toHaveLength(1);
  const headers = got[0]!.headers as Record<string, string>;
  for (const secret of hook.secrets) {
    expect(new Webhook(secret).verify(got[0]!.body, headers)).toMatchObject({ type: "agentkey.threshold", data: { kind: "threshold", metadata: { threshold: 0.5 } } });
  }
  expect(() => new Webhook(SECRET).verify(got[0]!.body + " ", headers)).toThrow();
  expect(await ak.deliveries()).toEqual([]);
});

test("a receiver that hangs, fails, redirects or is not there gets it again, and keeps nobody else waiting", async () => {
  let status: number | undefined = 500;
  const { url, got } = await receiver(() => status);
  const { url: gone } = await receiver(() => 204);
  await new Promise((resolve) => servers.pop()!.close(resolve));
  const hook = { name: "pager", url, secrets: [SECRET] };
  await ak.deliver(hook);
  await alarm();
  expect(await ak.deliver(hook)).toBe(1);
  expect(await ak.deliveries()).toMatchObject([{ webhook: "pager", kind: "threshold", attempts: 1, deadAt: null, error: "answered 500" }]);
  const tries: [number | undefined, string, string][] = [
    [302, url, "answered 302"],
    [undefined, url, "timeout"],
    [undefined, `${gone}?token=secret`, "ECONNREFUSED"],
  ];
  for (const [answer, address, error] of tries) {
    status = answer;
    await makeDue();
    const delivering = ak.deliver({ ...hook, url: address, timeoutMs: error === "timeout" ? 200 : 15_000 });
    await alarm();
    expect(await delivering).toBeGreaterThan(0);
    expect((await ak.deliveries()).at(-1)).toMatchObject({ error });
  }
  expect(got.filter(({ headers }) => headers["webhook-id"] === got[0]!.headers["webhook-id"])).toHaveLength(3);
  status = 410;
  await makeDue();
  await ak.deliver(hook);
  expect((await ak.deliveries({ dead: true })).length).toBeGreaterThan(0);
});

test("what is no webhook is refused, and no secret is repeated", async () => {
  const hook = { name: "pager", url: "https://example.com/", secrets: [SECRET] };
  await expect(ak.deliver({ ...hook, secrets: ["whsec_c2VjcmV0"] })).rejects.toMatchObject({ code: "invalid_text", message: expect.not.stringContaining("c2VjcmV0") });
  await expect(ak.deliver({ ...hook, url: "ftp://user:word@example.com" })).rejects.toThrow(/^invalid option url: give an address with http or https$/);
  await expect(ak.deliver({ ...hook, name: "" })).rejects.toMatchObject({ code: "invalid_text" });
  await expect(ak.deliver({ ...hook, timeoutMs: 60_000 })).rejects.toThrow("timeoutMs");
});

test("onEvent hears of each alarm in order, also after a callback that throws, and ends with close", async () => {
  const errors: string[] = [];
  const client = new AgentKey({ pool, thresholds: [0.5, 1], onError: (message) => errors.push(message) });
  await alarm();
  const heard: LedgerEvent[] = [];
  await new Promise<void>((resolve) => {
    client.onEvent(
      (event) => {
        heard.push(event);
        if (heard.length === 1) throw new Error("no");
        if (heard.length === 3) resolve();
      },
      { alarms: true, after: 0 },
    );
    void alarm().then(alarm);
  });
  expect(errors).toEqual([`onEvent failed on entry ${heard[0]!.id}`]);
  expect(heard.map(({ id }) => id)).toEqual(heard.map(({ id }) => id).sort((a, b) => a - b));
  await client.close();
  await alarm();
  expect(heard).toHaveLength(3);
});

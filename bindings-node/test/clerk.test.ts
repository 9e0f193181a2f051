// The doors for Clerk's tokens, with a double of Clerk's client.
import { AgentKey } from "agentkey";
import { clerkAgentKeyMiddleware, clerkApiKeyMiddleware, trackByApiKey, trackByM2M } from "agentkey/clerk";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { TestDatabase } from "./support/database.js";
import { App, EXPRESS } from "./support/server.js";

let db: TestDatabase;
let ak: AgentKey;
beforeAll(async () => void (db = await TestDatabase.create()));
beforeEach(async () => {
  await db.originalTable();
  ak = new AgentKey({ pool: db.pool });
});
afterEach(() => ak.close());
afterAll(() => db.drop());

const log = vi.spyOn(console, "error").mockImplementation(() => {});
beforeEach(() => void log.mockClear());

const TOKENS: Record<string, unknown> = {
  good: { subject: "mch_1", revoked: false, expired: false, claims: { org: "o" } },
  revoked: { subject: "mch_1", revoked: true, expired: false },
  expired: { subject: "mch_1", revoked: false, expired: true },
  nobody: { subject: "", revoked: false, expired: false },
  odd: { subject: 5 },
  empty: undefined,
};
async function verify(token: string): Promise<any> {
  if (token in TOKENS) return TOKENS[token];
  const status = /^status (\d+)$/.exec(token)?.[1];
  if (status) throw Object.assign(new Error("answered"), { status: Number(status) });
  if (token === "offline") throw new TypeError("fetch failed");
  throw Object.assign(new Error("not found"), { status: 404 });
}
const clerkClient = { m2m: { verify: ({ token }: { token: string }) => verify(token) }, apiKeys: { verify } };

const DOORS = [
  ["clerkAgentKeyMiddleware", clerkAgentKeyMiddleware, "Missing M2M token", "invalid_token", "m2m", trackByM2M],
  ["clerkApiKeyMiddleware", clerkApiKeyMiddleware, "Missing API key", "invalid_key", "clerkApiKey", trackByApiKey],
] as const;

describe.each(EXPRESS)("%s", (_, express) => {
  describe.each(DOORS)("%s", (_, door, missing, invalid, member, track) => {
    let app: App;
    afterEach(() => app.stop());
    const start = async (options: object = {}) =>
      (app = await App.start(express, (a) => {
        const middleware = door({ clerkClient, ak, ...options });
        a.get("/", middleware, (req, res) => void res.json({ token: req[member], key: req.agentKey }));
      }));
    const get = async (key?: string) => {
      const { status, body } = await app.request("GET", "/", { key });
      return [status, body];
    };

    test("tokens that are no good", async () => {
      await start();
      expect(await get()).toEqual([401, { error: missing }]);
      for (const token of ["revoked", "expired", "unknown", "nobody", "odd", "empty"]) {
        expect(await get(token)).toEqual([401, { error: invalid }]);
      }
      for (const status of [400, 401, 403, 404, 410, 422]) expect(await get(`status ${status}`)).toEqual([401, { error: invalid }]);
      for (const token of ["offline", "status 402", "status 408", "status 429", "status 500", "status 503"]) {
        expect(await get(token)).toEqual([500, { error: "auth_unavailable" }]);
      }
      expect(await db.number("SELECT count(*) FROM sdk_api_keys")).toBe(0);
    });

    test("a subject gets its row once, from defaults, and is charged", async () => {
      await start({ defaults: { budgetCents: 10, scopes: ["read"] } });
      const answers = await Promise.all([1, 2, 3].map(() => get("good")));
      for (const [status, body] of answers) {
        expect(status).toBe(200);
        expect(body).toMatchObject({ token: TOKENS.good, key: { valid: true, accountId: "mch_1", budgetCents: 10, scopes: ["read"] } });
      }
      expect(await db.number("SELECT count(*) FROM sdk_api_keys")).toBe(1);
      expect(await track(ak, "mch_1", 10)).toEqual({ success: true, budgetUsedCents: 10, budgetRemainingCents: 0 });
      expect(await get("good")).toEqual([429, { error: "budget_exceeded" }]);
    });

    test("onFirstSeen comes before defaults, and is asked once", async () => {
      const seen: unknown[] = [];
      const onFirstSeen = async (token: unknown) => (seen.push(token), { accountId: "org", scopes: ["a"] });
      await start({ defaults: { budgetCents: 1 }, onFirstSeen, scope: "b" });
      expect(await get("good")).toEqual([403, { error: "insufficient_scope", required: "b", available: ["a"] }]);
      expect(await get("good")).toMatchObject([403, {}]);
      expect(seen).toEqual([TOKENS.good]);
      expect(await db.text("SELECT account_id FROM sdk_api_keys")).toBe("org");
    });

    test("a double of the original's shape", async () => {
      let isKnown = false;
      const made: unknown[] = [];
      const grant = { valid: true, id: 1, accountId: "mch_1", userId: null, scopes: ["a"], budgetCents: null, budgetUsedCents: 0, budgetRemainingCents: null, budgetPeriod: null, budgetResetAt: null, expiresAt: null, delegatedBy: null, name: "n" };
      const double = {
        validateBySubject: async () => (isKnown ? grant : { valid: false, reason: "invalid" }),
        ensureSubject: async (...args: unknown[]) => void (made.push(args), (isKnown = true)),
      };
      await start({ ak: double, defaults: { scopes: ["a"] }, scope: "a" });
      expect(await get("good")).toEqual([200, { token: TOKENS.good, key: grant }]);
      expect(await get("good")).toMatchObject([200, {}]);
      expect(made).toEqual([["mch_1", { scopes: ["a"] }]]);
    });

    test("a revoked row is not made again", async () => {
      await start({ onFirstSeen: () => undefined });
      await get("good");
      await db.run("UPDATE sdk_api_keys SET revoked_at = now()");
      expect(await get("good")).toEqual([401, { error: "revoked" }]);
    });

    test("faults on this side", async () => {
      for (const options of [
        { onFirstSeen: () => Promise.reject(new Error("mine")) },
        { defaults: { budgetPeriod: "never" } },
        { ak: new AgentKey({ pool: { query: () => Promise.reject(new Error("down")) } }) },
      ]) {
        await start(options);
        expect(await get("good")).toEqual([500, { error: "auth_unavailable" }]);
        await app.stop();
      }
      expect(log).toHaveBeenCalledTimes(3);
      await start();
    });
  });
});

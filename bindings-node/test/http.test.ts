// The middleware and the routes, in Express 4 and 5, over real HTTP.
import { AgentKey, type ValidateResult, agentKeyMiddleware, createAgentKeyRoutes, presentedKey } from "agentkey";
import type { RequestHandler } from "express";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { TestDatabase } from "./support/database.js";
import { App, EXPRESS } from "./support/server.js";

const DAY = 86_400_000;
let db: TestDatabase;
let ak: AgentKey;
beforeAll(async () => {
  db = await TestDatabase.create();
  await db.originalTable();
  ak = new AgentKey({ pool: db.pool });
});
afterAll(async () => {
  await ak.close();
  await db.drop();
});

const log = vi.spyOn(console, "error").mockImplementation(() => {});
beforeEach(() => void log.mockClear());

/** A client whose pool is down. */
const down = () => new AgentKey({ pool: { query: () => Promise.reject(new Error("the pool is down")) } });

describe.each(EXPRESS)("%s", (_, express) => {
  let app: App;
  afterEach(() => app.stop());
  const start = async (set: Parameters<typeof App.start>[1]) => (app = await App.start(express, set));

  describe("agentKeyMiddleware", () => {
    const guarded = (client: AgentKey, options = {}) =>
      start((a) => {
        a.get("/", agentKeyMiddleware(client, options), (req, res) => void res.json(req.agentKey));
      });

    test.each([undefined, "", "Bearer", "Bearer ", "Basic abc", "Bearerabc"])("no key in %j", async (authorization) => {
      await guarded(ak);
      const answer = await app.request("GET", "/", { headers: authorization === undefined ? {} : { authorization } });
      expect([answer.status, answer.body]).toEqual([401, { error: "Missing API key" }]);
      expect(answer.headers["www-authenticate"]).toBe('Bearer realm="agentkey"');
    });

    test("invalid, revoked, expired", async () => {
      await guarded(ak);
      const revoked = await ak.create({ accountId: "a" });
      await ak.revoke(revoked.id);
      const expired = await ak.create({ accountId: "a", expiresIn: "0h" });
      for (const [key, error] of [["ak_none", "invalid"], [revoked.key, "revoked"], [expired.key, "expired"]] as const) {
        const answer = await app.request("GET", "/", { key });
        expect([answer.status, answer.body]).toEqual([401, { error }]);
        expect(answer.headers["www-authenticate"]).toContain('error="invalid_token"');
      }
    });

    test("budget exceeded", async () => {
      await guarded(ak);
      const { key } = await ak.create({ accountId: "a", budgetCents: 1, budgetPeriod: "day" });
      await ak.trackUsage(key, { costCents: 1 });
      const answer = await app.request("GET", "/", { key });
      expect([answer.status, answer.body]).toEqual([429, { error: "budget_exceeded" }]);
      const wait = Number(answer.headers["retry-after"]);
      expect(wait > 86_000 && wait <= 86_400).toBe(true);
    });

    test("the scope", async () => {
      await guarded(ak, { scope: "write" });
      const answers = [];
      for (const scopes of [["read"], [], ["write"], ["admin"], null]) {
        const { key } = await ak.create({ accountId: "a", scopes });
        answers.push(await app.request("GET", "/", { key }));
      }
      expect(answers.map((answer) => answer.status)).toEqual([403, 403, 200, 200, 200]);
      expect(answers[0]!.body).toEqual({ error: "insufficient_scope", required: "write", available: ["read"] });
      expect(answers[0]!.headers["www-authenticate"]).toContain('scope="write"');
    });

    test("a live key passes, however Bearer is written, and req.agentKey is what validate answers", async () => {
      await guarded(ak, { budgetHeaders: true });
      const { key } = await ak.create({ accountId: "a", userId: "u", budgetCents: 5, budgetPeriod: "day" });
      for (const scheme of ["Bearer", "bearer", "BEARER  "]) {
        const answer = await app.request("GET", "/", { headers: { authorization: `${scheme} ${key}` } });
        expect([answer.status, answer.body]).toEqual([200, await ak.validate(key)]);
        expect(answer.headers["ratelimit-policy"]).toBe('"budget";q=5;w=86400');
      }
    });

    test("the handler reads the key as the guard did", async () => {
      await start((a) => {
        a.get("/", agentKeyMiddleware(ak, { apiKeyHeader: "X-API-Key" }), (req, res) => void res.json(presentedKey(req, "X-API-Key")));
        a.get("/none", (req, res) => void res.json([presentedKey(req, "X-API-Key") === undefined]));
      });
      const { key } = await ak.create({ accountId: "a" });
      for (const headers of [{ authorization: `Bearer ${key}` }, { authorization: `bEARER \t${key} ` }, { "x-api-key": key }] as Record<string, string>[]) {
        const answer = await app.request("GET", "/", { headers });
        expect([answer.status, answer.body]).toEqual([200, key]);
      }
      for (const headers of [{}, { authorization: `Basic ${key}` }, { authorization: "Bearer " }] as Record<string, string>[]) {
        expect((await app.request("GET", "/none", { headers })).body).toEqual([true]);
      }
    });

    test("a database fault is a 500 that is logged without the key, and the app lives on", async () => {
      await guarded(down());
      for (let i = 0; i < 3; i++) {
        const answer = await app.request("GET", "/", { key: "ak_planted" });
        expect([answer.status, answer.body]).toEqual([500, { error: "auth_unavailable" }]);
      }
      expect(log.mock.calls.length).toBe(3);
      expect(String(log.mock.calls[0]![1])).toContain("the pool is down");
      expect(JSON.stringify(log.mock.calls)).not.toContain("planted");
    });

    test("doubles of the client, also bad ones", async () => {
      const double = (validate: () => Promise<unknown>) => ({ validate }) as never;
      await start((a) => {
        a.get("/good", agentKeyMiddleware(double(async () => ({ valid: true, id: 1, scopes: ["x"] })), { scope: "x" }), (req, res) => void res.json(req.agentKey));
        a.get("/throws", agentKeyMiddleware(double(() => { throw new Error("sync"); })));
        a.get("/nothing", agentKeyMiddleware(double(async () => undefined)));
        a.get("/nonsense", agentKeyMiddleware(double(async () => ({ valid: false, reason: "mood" }))));
      });
      expect((await app.request("GET", "/good", { key: "k" })).body).toEqual({ valid: true, id: 1, scopes: ["x"] });
      for (const path of ["/throws", "/nothing", "/nonsense"]) {
        expect((await app.request("GET", path, { key: "k" })).status).toBe(500);
      }
    });

    test("a client's own hasScope decides, of a double and of a subclass", async () => {
      class Wildcards extends AgentKey {
        override hasScope(result: ValidateResult, scope: string): boolean {
          return super.hasScope(result, scope) || super.hasScope(result, scope.replace(/:.*/, ":*"));
        }
      }
      const wildcards = new Wildcards({ pool: db.pool });
      const asked: unknown[] = [];
      const never = { validate: (key: string) => ak.validate(key), hasScope: (...args: unknown[]) => (asked.push(args), false) };
      const handler: RequestHandler = (req, res) => void res.json(req.agentKey);
      await start((a) => {
        a.get("/wildcards", agentKeyMiddleware(wildcards, { scope: "docs:read" }), handler);
        a.get("/never", agentKeyMiddleware(never, { scope: "docs:read" }), handler);
        a.get("/unasked", agentKeyMiddleware(never), handler);
      });
      const [all, some] = await Promise.all([["docs:*"], ["docs:read"]].map((scopes) => ak.create({ accountId: "a", scopes })));
      const get = async (path: string, key: string) => {
        const { status, body } = await app.request("GET", path, { key });
        return [status, body];
      };
      expect(await get("/wildcards", all!.key)).toEqual([200, await ak.validate(all!.key)]);
      expect(await get("/wildcards", some!.key)).toMatchObject([200, {}]);
      expect(await get("/never", some!.key)).toEqual([403, { error: "insufficient_scope", required: "docs:read", available: ["docs:read"] }]);
      expect(asked).toEqual([[await ak.validate(some!.key), "docs:read"]]);
      expect(await get("/never", "ak_none")).toEqual([401, { error: "invalid" }]);
      expect(await get("/unasked", some!.key)).toMatchObject([200, {}]);
      expect(asked).toHaveLength(1);
      await wildcards.close();
    });
  });

  describe.each([
    ["with express.json()", true],
    ["without a parser", false],
  ])("createAgentKeyRoutes %s", (_, withParser) => {
    const serve = (options = {}, client: AgentKey<any> = ak) =>
      start((a) => {
        if (withParser) a.use(express.json());
        a.use(createAgentKeyRoutes(client, { signup: true, ...options }));
        // What a parser refuses: without this Express logs it.
        a.use(((error, _req, res, _next) => void res.status(error.status ?? 500).json({ error: error.message })) as import("express").ErrorRequestHandler);
      });
    const signup = (body: unknown) => app.request("POST", "/signup", { body });

    test("a signup", async () => {
      await serve({ signupScopes: ["read", "write"] });
      const answer = await signup({ email: "a@example.com" });
      expect(answer.status).toBe(201);
      expect(answer.headers["cache-control"]).toBe("no-store");
      expect(answer.body).toEqual({ key: expect.stringMatching(/^ak_[0-9a-f]{48}$/), id: expect.any(Number), scopes: ["read", "write"], budgetCents: null, budgetPeriod: null, expiresAt: expect.any(String) });
      const life = Date.parse(answer.body.expiresAt) - Date.now();
      expect(Math.abs(life - DAY) < 60_000).toBe(true);
      const again = await signup({ email: "a@example.com", scopes: ["read"], budget_cents: 5, budget_period: "day", expires_in: "2h", name: "n" });
      const [one, two] = await Promise.all([answer, again].map((a) => ak.validate(a.body.key)));
      expect(two).toMatchObject({ valid: true, scopes: ["read"], budgetCents: 5, budgetPeriod: "day", name: "n", userId: "a@example.com" });
      // Who knows an address gets no key of its owner's account.
      expect(one).toMatchObject({ accountId: expect.stringMatching(/^signup:[0-9a-f-]{36}$/) });
      expect((one as { accountId: string }).accountId).not.toBe((two as { accountId: string }).accountId);
    });

    test("what a signup may ask for", async () => {
      await serve({ signupScopes: ["read"], signupMaxExpiresIn: "30d", signupBudget: { maxCents: 100, period: "day" } });
      const refused = await signup({ email: "a@b", scopes: ["read", "admin", "x"] });
      expect([refused.status, refused.body]).toEqual([400, { error: "Scopes not allowed on signup: admin, x", allowed: ["read"] }]);
      for (const body of [{ expires_in: "" }, { expires_in: "31d" }, { budget_cents: 101 }, { budget_period: "month" }]) {
        expect((await signup({ email: "a@b", ...body })).status).toBe(400);
      }
      expect((await signup({ email: "a@b" })).body).toMatchObject({ budgetCents: 100, budgetPeriod: "day" });
    });

    test("without options a signup's key passes no scope check, and the address may be optional", async () => {
      await serve({ requireEmailForSignup: false });
      const answers = await Promise.all([signup({}), signup({})]);
      expect(answers.map((a) => [a.status, a.body.scopes])).toEqual([[201, []], [201, []]]);
      const grants = await Promise.all(answers.map((a) => ak.validate(a.body.key)));
      expect(new Set(grants.map((g) => (g as { accountId: string }).accountId)).size).toBe(2);
      expect(ak.hasScope(grants[0] as never, "read")).toBe(false);
    });

    test("the original's accounts, and a limit that works", async () => {
      await ak.migrate();
      await db.run("DELETE FROM sdk_api_keys_signups");
      await serve({ signupAccount: "email", signupRateLimit: { max: 2, windowMs: 60_000 } });
      const first = await signup({ email: "e@x" });
      expect(await ak.validate(first.body.key)).toMatchObject({ accountId: "e@x" });
      expect((await signup({ email: "nonsense" })).status).toBe(400);
      expect((await signup({ email: "e@x" })).status).toBe(201);
      const limited = await signup({ email: "e@x" });
      expect(limited.status).toBe(429);
      expect(Number(limited.headers["retry-after"])).toBeGreaterThan(0);
      // Routes anew, as in another process, on the same table.
      await app.stop();
      await serve({ signupRateLimit: { max: 2, windowMs: 60_000 } });
      expect((await signup({ email: "e@x" })).status).toBe(429);
      await app.stop();
      await db.run("DELETE FROM sdk_api_keys_signups");
      await serve({ signupRateLimit: { max: 2, windowMs: 60_000 } });
      expect((await signup({ email: "e@x" })).status).toBe(201);
    });

    test("who am I, also when all is spent", async () => {
      await serve();
      expect((await app.request("GET", "/sdk-keys/me")).body).toEqual({ error: "Missing API key" });
      const { key, id } = await ak.create({ accountId: "a", budgetCents: 1 });
      const me = () => app.request("GET", "/sdk-keys/me", { key });
      expect((await me()).body).toMatchObject(await ak.validate(key));
      await ak.trackUsage(key, { costCents: 1 });
      const spent = await me();
      expect([spent.status, spent.body.valid, spent.body.budgetRemainingCents]).toEqual([200, true, 0]);
      expect((await app.request("POST", "/sdk-keys", { key, body: { budget_cents: 1 } })).status).toBe(429);
      expect((await app.request("DELETE", `/sdk-keys/${id}`, { key })).body).toEqual({ revoked: true });
    });

    test("a child may do no more than its parent", async () => {
      await serve();
      const parent = await ak.create({ accountId: "acct", userId: "u", scopes: ["read", "write"], budgetCents: 100, expiresIn: "2d", delegatedBy: "alice" });
      const child = (body: unknown, key = parent.key) => app.request("POST", "/sdk-keys", { key, body });
      const good = await child({ budget_cents: 100, expires_in: "1d", name: "kid" });
      expect([good.status, good.body.scopes]).toEqual([201, ["read", "write"]]);
      expect(await ak.validate(good.body.key)).toMatchObject({ accountId: "acct", userId: "u", delegatedBy: "alice", name: "kid" });
      const lacking = await child({ budget_cents: 1, expires_in: "1d", scopes: ["read", "a", "admin"] });
      expect([lacking.status, lacking.body]).toEqual([403, { error: "Cannot grant scopes you do not have: a, admin" }]);
      for (const body of [{ expires_in: "1d" }, { budget_cents: 101, expires_in: "1d" }, { budget_cents: 1 }, { budget_cents: 1, expires_in: "3d" }, { budget_cents: 1, expires_in: "" }]) {
        expect((await child(body)).status).toBe(403);
      }
      for (const scopes of [null, ["admin"]]) {
        const free = await ak.create({ accountId: "acct", scopes });
        expect((await child({ scopes: ["anything"] }, free.key)).status).toBe(201);
      }
      expect((await child({}, "ak_none")).body).toEqual({ error: "invalid" });
    });

    test("more budget for a while", async () => {
      await ak.migrate();
      await serve();
      const team = await ak.create({ accountId: "a", budgetCents: 1000 });
      const agent = await ak.create({ parent: team.key, budgetCents: 10, scopes: ["admin"] });
      const sibling = await ak.create({ parent: team.key, scopes: ["admin"] });
      await ak.trackUsage(agent.key, { costCents: 10 });
      const ask = (body: unknown, key = agent.key) => app.request("POST", "/sdk-keys/increases", { key, body });
      expect((await ask({ cents: 500 })).body).toEqual({ error: "for is required" });
      const asked = await ask({ cents: 500, for: "2h", reason: "more pages" });
      expect([asked.status, asked.body.state, asked.body.keyId, asked.body.forSeconds]).toEqual([201, "pending", agent.id, 7200]);
      expect((await ask({ cents: 500, for: 7200, reason: "more pages" })).status).toBe(200);
      expect(await ask({ cents: 1, for: 60 })).toMatchObject({ status: 409, body: { error: "already_pending", request: { id: asked.body.id } } });
      for (const [key, count] of [[agent.key, 1], [team.key, 1], [sibling.key, 0]] as const) {
        expect((await app.request("GET", "/sdk-keys/increases?state=pending", { key })).body).toHaveLength(count);
      }
      expect((await app.request("GET", "/sdk-keys/increases?state=denied", { key: agent.key })).body).toEqual([]);
      const decide = (key: string, body: unknown) => app.request("POST", `/sdk-keys/increases/${asked.body.id}`, { key, body });
      for (const key of [agent.key, sibling.key, (await ak.create({ accountId: "a" })).key]) {
        expect(await decide(key, { approve: true })).toMatchObject({ status: 404, body: { error: "Request not found" } });
      }
      expect((await decide((await ak.create({ accountId: "a", scopes: ["read"] })).key, { approve: true })).status).toBe(403);
      expect((await decide(team.key, {})).status).toBe(400);
      expect((await ak.validate(agent.key)).valid).toBe(false);
      expect(await decide(team.key, { approve: true, cents: 300 })).toMatchObject({ status: 200, body: { grantedCents: 300, decidedByKeyId: team.id } });
      expect(await decide(team.key, { approve: false })).toMatchObject({ status: 409, body: { error: "already_decided" } });
      expect(await ak.trackUsage(agent.key, { costCents: 300 })).toMatchObject({ success: true, budgetRemainingCents: 0 });
      expect((await ak.trackUsage(agent.key, { costCents: 1 })).success).toBe(false);
    });

    test("who may revoke what", async () => {
      await serve();
      const [mine, sibling, other] = await Promise.all(["a", "a", "b"].map((accountId) => ak.create({ accountId })));
      const remove = (id: string | number) => app.request("DELETE", `/sdk-keys/${id}`, { key: mine!.key });
      for (const id of [other!.id, 999_999, `${sibling!.id}abc`, "1%2F2", "9".repeat(30)]) {
        const answer = await remove(id);
        expect([id, answer.status, answer.body]).toEqual([id, 404, { error: "Key not found" }]);
      }
      for (const id of ["x", "me", "%00", "%20", `%20${sibling!.id}`, `-${sibling!.id}`, "'--", "%C3%A9"]) {
        const answer = await remove(id);
        expect([id, answer.status, answer.body]).toEqual([id, 400, { error: "Invalid key ID" }]);
      }
      expect((await remove(sibling!.id)).body).toEqual({ revoked: true });
      expect((await remove(sibling!.id)).status).toBe(404);
      expect(await ak.validate(other!.key)).toMatchObject({ valid: true });
    });

    test("an account that is NULL owns nothing, and a policy narrows what a key revokes", async () => {
      await serve({ revokePolicy: "descendants" });
      const [mine, sibling] = await Promise.all(["a", "a"].map((accountId) => ak.create({ accountId })));
      expect((await app.request("DELETE", `/sdk-keys/${sibling!.id}`, { key: mine!.key })).status).toBe(404);
      expect((await app.request("DELETE", `/sdk-keys/${mine!.id}`, { key: mine!.key })).status).toBe(200);
      await db.run("ALTER TABLE sdk_api_keys ALTER account_id DROP NOT NULL");
      const orphan = await ak.create({ accountId: "a" });
      await db.run(`UPDATE sdk_api_keys SET account_id = NULL WHERE id = ${orphan.id}`);
      expect((await app.request("DELETE", `/sdk-keys/${sibling!.id}`, { key: orphan.key })).status).toBe(404);
    });

    test("a double of the original's shape", async () => {
      const calls: unknown[] = [];
      const caller = { valid: true, id: 1, accountId: "a", userId: "u", scopes: ["read"], budgetCents: 5, budgetUsedCents: 1, budgetRemainingCents: 4, budgetPeriod: "day", budgetResetAt: null, expiresAt: null, delegatedBy: null, name: "n" };
      const made = { key: "ak_made", id: 2, scopes: ["read"], budgetCents: 5, budgetPeriod: null, expiresAt: null };
      let error: Error | undefined;
      const double = {
        validate: async (key: string) => (key === "good" ? caller : { valid: false, reason: "invalid" }),
        create: async (options: unknown) => {
          calls.push(options);
          if (error) throw error;
          return made;
        },
        revoke: async (...args: unknown[]) => (calls.push(args), args[0] === 2),
      };
      await serve({ signupScopes: ["read"] }, double as never);
      const ask = async (method: string, path: string, body?: unknown, key = "good") => {
        const answer = await app.request(method, path, { key, body });
        return [answer.status, answer.body];
      };
      expect(await ask("GET", "/sdk-keys/me")).toMatchObject([200, caller]);
      expect(await ask("GET", "/sdk-keys/me", undefined, "bad")).toEqual([401, { error: "invalid" }]);
      const wanted = { scopes: ["read"], budget_cents: 5, budget_period: "day", expires_in: "2h", name: "kid" };
      expect(await ask("POST", "/sdk-keys", wanted)).toEqual([201, made]);
      expect(await ask("POST", "/signup", { ...wanted, email: "a@b" })).toEqual([201, made]);
      expect(calls.splice(0)).toEqual([
        expect.objectContaining({ accountId: "a", userId: "u", scopes: ["read"], budgetCents: 5, budgetPeriod: "day", expiresIn: "2h", name: "kid" }),
        expect.objectContaining({ userId: "a@b", scopes: ["read"], budgetCents: 5, budgetPeriod: "day", expiresIn: "2h", name: "kid" }),
      ]);
      expect(await ask("DELETE", "/sdk-keys/2")).toEqual([200, { revoked: true }]);
      expect(await ask("DELETE", "/sdk-keys/3")).toEqual([404, { error: "Key not found" }]);
      expect(calls.splice(0)).toEqual([[2, "a"], [3, "a"]]);
      for (const message of ["Invalid scopes: read", "Invalid budget period: day"]) {
        error = new Error(message);
        expect(await ask("POST", "/signup", { ...wanted, email: "a@b" })).toEqual([400, { error: message }]);
      }
      expect(log).not.toHaveBeenCalled();
      error = new Error("the database is down");
      expect(await ask("POST", "/signup", { ...wanted, email: "a@b" })).toEqual([500, { error: "auth_unavailable" }]);
    });

    test("ids that are no numbers are found or not", async () => {
      const uuids = new AgentKey<string>({ pool: db.pool, tableName: "uuid_keys" });
      await db.originalTable("UUID DEFAULT gen_random_uuid()", "TEXT", "uuid_keys");
      await serve({}, uuids);
      const [mine, sibling, other] = await Promise.all(["a", "a", "b"].map((accountId) => uuids.create({ accountId })));
      const remove = (id: string) => app.request("DELETE", `/sdk-keys/${id}`, { key: mine!.key });
      for (const id of [other!.id, "x", "5", "f00", "%00", `${sibling!.id}0`]) {
        expect([id, (await remove(id)).body]).toEqual([id, { error: "Key not found" }]);
      }
      expect((await remove(sibling!.id)).body).toEqual({ revoked: true });
      await uuids.close();
    });

    test("a key in a header of its own", async () => {
      await serve({ apiKeyHeader: "X-API-Key" });
      const { key, id } = await ak.create({ accountId: "a" });
      const headers = { "x-api-key": key };
      expect((await app.request("GET", "/sdk-keys/me", { headers })).body).toMatchObject({ valid: true, id });
      const child = (await app.request("POST", "/sdk-keys", { headers, body: {} })).body;
      expect((await app.request("DELETE", `/sdk-keys/${child.id}`, { headers })).body).toEqual({ revoked: true });
      expect((await app.request("GET", "/sdk-keys/me", {})).status).toBe(401);
      for (const apiKeyHeader of ["Authorization", "cookie", "x api key", ""]) {
        const make = [() => agentKeyMiddleware(ak, { apiKeyHeader }), () => createAgentKeyRoutes(ak, { signup: false, apiKeyHeader })];
        for (const it of make) expect(it).toThrow(/^Invalid header of a key/);
      }
    });

    test("a database fault", async () => {
      await serve({}, down());
      const answers = [
        await signup({ email: "a@b" }),
        await app.request("GET", "/sdk-keys/me", { key: "ak_planted" }),
        await app.request("POST", "/sdk-keys", { key: "ak_planted", body: {} }),
        await app.request("DELETE", "/sdk-keys/1", { key: "ak_planted" }),
      ];
      expect(answers.map((a) => [a.status, a.body])).toEqual(answers.map(() => [500, { error: "auth_unavailable" }]));
      expect(log.mock.calls.length).toBe(4);
      expect(log.mock.calls.map(String).join()).not.toContain("planted");
    });

    test("bad input is a 4xx that says what is wrong, and writes nothing", async () => {
      const { key } = await ak.create({ accountId: "bad" });
      await ak.validate(key); // whose use is noted before the snapshot
      await ak.close();
      ak = new AgentKey({ pool: db.pool });
      await serve({ signupScopes: ["read"] });
      const long = "x".repeat(300);
      const raw = ["", " ", "{", "[]", "null", "5", '"text"', "true", "{'a':1}", "\u0000", '{"a":1}x', '{"email":"a@b","email"}', '{"email":"\\ud800@b","name":"\\ud800"}', Buffer.from([0xff, 0xfe, 0x7b]), "[".repeat(5000), "email=a@b", '{"email":"a@b","budget_cents":1e999}', '{"email":"a@b","budget_cents":NaN}', `{"email":"${"y".repeat(200_000)}"}`];
      const fields: Record<string, unknown[]> = {
        email: [5, {}, [], true, "", "none", `@${"é".repeat(256)}`, "a@b\0"],
        scopes: ["read", 5, {}, [5], [null], [["read"]], [""], ["read\0"], [long], Array(101).fill("read"), true],
        budget_cents: ["5", "1_000_000", -1, 1.5, 1e300, 9_007_199_254_740_993, true, [], {}],
        budget_period: [5, "", "daily", "Day", "week", [], {}, "day\0", long],
        expires_in: [5, 0, false, "1", "h", "1w", "-1h", "1.5h", " 1h", [], {}, "9".repeat(400) + "d", "500000d"],
        name: [5, [], {}, true, "a\0b", long],
      };
      const bodies: [string, unknown][] = raw.map((body) => [`raw ${String(body).slice(0, 40)}`, body]);
      for (const [field, values] of Object.entries(fields)) {
        for (const value of values) bodies.push([`${field} ${JSON.stringify(value).slice(0, 40)}`, { email: "a@b", [field]: value }]);
      }
      expect(bodies.length).toBeGreaterThan(60);
      const before = await db.snapshot();
      for (const [name, body] of bodies) {
        const answers = [await signup(body)];
        // The email is the signup's alone, and a parser makes an empty object of no body: a child like its parent.
        if (!name.startsWith("email") && !(withParser && body === "")) answers.push(await app.request("POST", "/sdk-keys", { key, body }));
        for (const answer of answers) {
          expect([name, answer.status >= 400 && answer.status < 500, typeof answer.body?.error]).toEqual([name, true, "string"]);
          expect(answer.body.error.length > 3 && answer.body.error.length < 300).toBe(true);
        }
      }
      for (const authorization of ["Bearer \u0001", `Bearer ${"x".repeat(8000)}`, "Bearer a b c", "Bearer é"]) {
        const answer = await app.request("GET", "/sdk-keys/me", { headers: { authorization: Buffer.from(authorization).toString("latin1").replace("\u0001", "%01") } });
        expect(answer.status).toBe(401);
      }
      await ak.close();
      ak = new AgentKey({ pool: db.pool });
      expect(await db.snapshot()).toBe(before);
      expect(log.mock.calls).toEqual([]);
    });
  });
});

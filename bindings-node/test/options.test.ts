// Options of the middleware and the routes: a misspelt one is refused, for it may be the one that limits.
import { AgentKey, agentKeyMiddleware, createAgentKeyRoutes } from "agentkey";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { TestDatabase } from "./support/database.js";
import { App, EXPRESS } from "./support/server.js";

const double = {} as AgentKey;

test.each([
  [{ scopes: ["read"] }, /agentKeyMiddleware has no option scopes; did you mean scope\?/],
  [{ reservecents: 5 }, /did you mean reserveCents\?/],
  [{ billErrors: "yes" }, /invalid option billErrors/],
  [{ budgetHeaders: 1 }, /invalid option budgetHeaders/],
  [{ exceededStatus: 500 }, /expected 402 or 429/],
  [{ exceededStatus: "402" }, /invalid option exceededStatus/],
  ["read", /options must be an object/],
])("agentKeyMiddleware refuses %j", (options, message) => {
  expect(() => agentKeyMiddleware(double, options as never)).toThrow(message);
});

test.each([
  [{ signupscopes: [] }, /createAgentKeyRoutes has no option signupscopes; did you mean signupScopes\?/],
  [{ signup: "no" }, /invalid option signup/],
  [{ requireEmailForSignup: "false" }, /invalid option requireEmailForSignup/],
  [{ signupBudget: { cents: 5 } }, /signupBudget has no option cents/],
  [{ signupRateLimit: { max: 5, windowMS: 5 } }, /did you mean windowMs\?/],
])("createAgentKeyRoutes refuses %j", (options, message) => {
  expect(() => createAgentKeyRoutes(double, options as never)).toThrow(message);
});

test("who opens signup without a limit is warned, once", () => {
  const warnings = vi.spyOn(process, "emitWarning").mockImplementation(() => {});
  for (const options of [{ signup: true }, { signup: false }, { signupBudget: { maxCents: 5 } }]) createAgentKeyRoutes(double, options);
  expect(warnings).not.toHaveBeenCalled();
  createAgentKeyRoutes(double);
  createAgentKeyRoutes(double);
  expect(warnings.mock.calls).toEqual([[expect.stringContaining("anybody a key without a limit"), { code: "AGENTKEY_OPEN_SIGNUP" }]]);
  warnings.mockRestore();
});

describe("signup", () => {
  let db: TestDatabase;
  beforeAll(async () => {
    db = await TestDatabase.create();
    await db.originalTable();
  });
  afterAll(() => db.drop());

  test.each(EXPRESS)("%s: it may be closed", async (_, express) => {
    const ak = new AgentKey({ pool: db.pool });
    const app = await App.start(express, (a) => void a.use(createAgentKeyRoutes(ak, { signup: false })));
    const { key } = await ak.create({ accountId: "a" });
    expect((await app.request("POST", "/signup", { body: { email: "a@example.com" } })).status).toBe(404);
    expect((await app.request("GET", "/sdk-keys/me", { key })).status).toBe(200);
    await app.stop();
    await ak.close();
  });
});

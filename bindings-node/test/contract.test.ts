// What the contract says of the methods, as far as the shared cases cannot: JavaScript's own values.
import * as cjs from "agentkey";
import { AgentKey, AgentKeyError, type CreateKeyResult, type ValidateResult, expiryFromDuration } from "agentkey";
import { createRequire } from "node:module";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestDatabase, eventually } from "./support/database.js";

let db: TestDatabase;
let ak: AgentKey;
beforeAll(async () => {
  db = await TestDatabase.create();
  await db.originalTable();
  ak = new AgentKey({ pool: db.pool, validScopes: ["read", "write"] });
});
afterAll(async () => {
  await ak.close();
  await db.drop();
});

test("import and require give the same things", () => {
  const required = createRequire(import.meta.url)("../dist/index.js");
  expect(Object.keys(cjs).sort()).toEqual(Object.keys(required).sort());
  for (const name of Object.keys(cjs)) expect((cjs as any)[name]).toBe(required[name]);
});

test("absent values come back as null", async () => {
  const created = await ak.create({ accountId: "a" });
  expect(created).toEqual({ key: expect.stringMatching(/^ak_[0-9a-f]{48}$/), id: expect.any(Number), scopes: null, budgetCents: null, budgetPeriod: null, expiresAt: null });
  expect(Object.keys(created)).toEqual(["key", "id", "scopes", "budgetCents", "budgetPeriod", "expiresAt"]);
  expect(await ak.validate(created.key)).toMatchObject({ valid: true, budgetRemainingCents: null, name: "default" });
});

test("expiryFromDuration answers a Date, or null", () => {
  const soon = expiryFromDuration("2h")!;
  expect(soon).toBeInstanceOf(Date);
  expect(Math.abs(soon.getTime() - Date.now() - 7_200_000) < 5000).toBe(true);
  expect([expiryFromDuration(null), expiryFromDuration(undefined), expiryFromDuration("")]).toEqual([null, null, null]);
  for (const bad of ["1w", "x", 5, {}, [], true, Symbol("s")]) expect(() => expiryFromDuration(bad as never)).toThrow(/^Invalid duration: /);
});

describe("create refuses what it cannot store, and writes nothing", () => {
  beforeAll(async () => {
    const unnoted = "SELECT count(*) FROM sdk_api_keys WHERE last_used_at IS NULL";
    await eventually("the uses of the tests before are noted", async () => (await db.number(unnoted)) === 0);
  });
  const lone = "\ud800";
  test.each<[string, object]>([
    ["invalid_scopes", { scopes: ["admin"] }],
    ["invalid_scopes", { scopes: "read" }],
    ["invalid_scopes", { scopes: [5] }],
    ["invalid_scopes", { scopes: [lone] }],
    ["invalid_scopes", { scopes: {} }],
    ["invalid_budget_period", { budgetPeriod: "week" }],
    ["invalid_budget_period", { budgetPeriod: {} }],
    ["invalid_duration", { expiresIn: "1w" }],
    ["invalid_duration", { expiresIn: {} }],
    ["invalid_duration", { expiresIn: 5 }],
    ["invalid_budget", { budgetCents: -1 }],
    ["invalid_budget", { budgetCents: 1.5 }],
    ["invalid_budget", { budgetCents: "5" }],
    ["invalid_budget", { budgetCents: NaN }],
    ["invalid_budget", { budgetCents: 2 ** 31 }],
    ["invalid_budget", { budgetCents: 1e300 }],
    ["invalid_account_id", { accountId: undefined }],
    ["invalid_account_id", { accountId: {} }],
    ["invalid_account_id", { accountId: lone }],
    ["invalid_text", { name: lone }],
    ["invalid_text", { name: "a\0" }],
    ["invalid_text", { userId: {} }],
    ["invalid_text", { delegatedBy: `x${lone}` }],
  ])("%s: %j", async (code, options) => {
    const before = await db.snapshot();
    const error: AgentKeyError = await ak.create({ accountId: "a", ...options } as never).then(() => expect.unreachable(), (e) => e);
    expect(error).toBeInstanceOf(AgentKeyError);
    expect([error.code, error.message.startsWith("Invalid ")]).toEqual([code, true]);
    expect(error.message.isWellFormed()).toBe(true);
    expect(await db.snapshot()).toBe(before);
  });
});

test("subjects that cannot be stored are refused, and looked up are nobody", async () => {
  // What a careless conversion would make of a lone surrogate.
  await ak.ensureSubject("\ufffd");
  for (const subject of ["", "\0", "\ud800", 5, null, undefined, {}]) {
    await expect(ak.ensureSubject(subject as never)).rejects.toMatchObject({ code: "invalid_subject" });
    expect(await ak.validateBySubject(subject as never)).toEqual({ valid: false, reason: "invalid" });
    expect(await ak.trackUsageBySubject(subject as never, { costCents: 1 })).toEqual({ success: false, reason: "invalid_key" });
  }
  expect(await ak.ensureSubject("s", { userId: "u" })).toBe(undefined);
  expect(await ak.ensureSubject("s", { userId: "other" })).toBe(undefined);
  expect(await ak.validateBySubject("s")).toMatchObject({ valid: true, accountId: "s", userId: "u" });
});

test("keys, costs and ids that are none", async () => {
  for (const key of [undefined, null, 5, {}, "", "ak_", "\0", "x".repeat(1e6)]) {
    expect(await ak.validate(key as never)).toEqual({ valid: false, reason: "invalid" });
    expect(await ak.trackUsage(key as never, { costCents: 1 })).toEqual({ success: false, reason: "invalid_key" });
  }
  const { key, id } = await ak.create({ accountId: "a", budgetCents: 10 });
  for (const costCents of [NaN, Infinity, -Infinity]) {
    expect(await ak.trackUsage(key, { costCents })).toEqual({ success: false, reason: "invalid_cost" });
  }
  // What is no cost at all is a mistake of the program.
  for (const usage of [undefined, null, {}, { costcents: 5 }, ...["5", null, undefined, {}, 5n].map((costCents) => ({ costCents }))]) {
    await expect(ak.trackUsage(key, usage as never)).rejects.toMatchObject({ code: expect.stringMatching(/^invalid_(cost|text)$/) });
  }
  for (const costCents of [0, -0, -5]) expect(await ak.trackUsage(key, { costCents })).toEqual({ success: true });
  expect(await ak.trackUsage(key, { costCents: 110.00000000000001 })).toEqual({ success: false, reason: "budget_exceeded" });
  expect(await ak.trackUsage(key, { costCents: 0.1 + 0.2 })).toEqual({ success: true, budgetUsedCents: 1, budgetRemainingCents: 9 });
  for (const bad of [undefined, null, {}, "", "abc", `${id}abc`, 1.5, NaN, -1, 2 ** 60, "\ud800"]) expect(await ak.revoke(bad as never)).toBe(false);
  expect(await ak.revoke(id, null)).toBe(false);
  expect(await ak.revoke(id, {} as never)).toBe(false);
  expect(await ak.revoke(String(id), "a")).toBe(true);
});

test("scopes", () => {
  const result = (scopes: string[] | null) => ({ valid: true, scopes }) as never;
  expect([null, ["read"], ["admin"], ["readonly"], []].map((scopes) => ak.hasScope(result(scopes), "read"))).toEqual([true, true, true, false, false]);
  expect(ak.hasScope({ valid: false, reason: "invalid" } as never, "read")).toBe(false);
  expect(ak.validateScopes(["read"])).toEqual({ valid: true });
  expect(ak.validateScopes(["read", "x", "admin"])).toEqual({ valid: false, invalid: ["x", "admin"] });
});

test("any number of clients may migrate at once", async () => {
  await db.run("DROP TABLE sdk_api_keys CASCADE");
  await Promise.all(Array.from({ length: 8 }, () => new AgentKey({ pool: db.pool }).migrate()));
  const { key } = await new AgentKey({ pool: db.pool, budgetPeriods: "all" }).create({ accountId: "a", budgetPeriod: "week", budgetCents: 1 });
  expect(await ak.validate(key)).toMatchObject({ valid: true, budgetPeriod: "week" });
});

test("what the original's types promise compiles", async () => {
  const built: ValidateResult = { valid: true, id: 1, accountId: "a", userId: null, scopes: null, budgetCents: null, budgetUsedCents: 0, budgetRemainingCents: null, budgetPeriod: null, budgetResetAt: null, expiresAt: null, delegatedBy: null, name: "n" };
  const created: CreateKeyResult = await ak.create({ accountId: "a" });
  const [id, builtId, account]: [number, number, string] = [created.id, built.id, built.accountId];
  expect([typeof id, typeof builtId, account, ak.hasScope(built, "read")]).toEqual(["number", "number", "a", true]);
});

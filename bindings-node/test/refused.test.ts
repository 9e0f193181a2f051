// Refusals as exceptions, for callers who would rather not look at results.
import { AgentKey, RefusedError, type ReserveResult, type ValidateResult, orThrow } from "agentkey";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestDatabase } from "./support/database.js";

let db: TestDatabase;
let ak: AgentKey;
beforeAll(async () => {
  db = await TestDatabase.create();
  ak = new AgentKey({ pool: db.pool });
  await ak.migrate();
});
afterAll(async () => {
  await ak.close();
  await db.drop();
});

const thrown = (act: () => unknown): unknown => {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
};

test("what was done comes back as it is", async () => {
  const { key } = await ak.create({ accountId: "a", budgetCents: 10 });
  const live: ValidateResult = orThrow(await ak.validate(key));
  expect(live.budgetRemainingCents).toBe(10);
  const held = orThrow(await ak.reserve(key, { costCents: 2 }));
  expect(orThrow(await ak.settle(held.reservationId, { costCents: 1 })).costCents).toBe(1);
  const charged = await ak.trackUsage(key, { costCents: 3 });
  expect(orThrow(charged)).toBe(charged);
});

test("a refusal is thrown with its reason and its limit", async () => {
  const { key, id } = await ak.create({ accountId: "a", budgetCents: 10 });
  const refused: ReserveResult = await ak.reserve(key, { costCents: 11 });
  const error = thrown(() => orThrow(refused));
  expect(error).toBeInstanceOf(RefusedError);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ name: "RefusedError", message: "budget_exceeded", reason: "budget_exceeded", refusal: refused, limit: { keyId: id, budgetCents: 10 } });
  const unknown = await ak.validate("ak_nobody");
  expect(thrown(() => orThrow(unknown))).toMatchObject({ reason: "invalid", limit: undefined });
  const charge = await ak.trackUsage("ak_nobody", { costCents: 1 });
  expect(thrown(() => orThrow(charge))).toMatchObject({ reason: "invalid_key" });
});

test("what is no result passes nobody: a call that was not awaited, nothing at all", async () => {
  const call = ak.validate("ak_nobody");
  expect(() => orThrow(call)).toThrow(/await the call first/);
  await call;
  for (const nonsense of [{}, { success: "true" }, [], { valid: 1 }]) expect(() => orThrow(nonsense)).toThrow(TypeError);
  for (const nothing of [undefined, null]) expect(() => orThrow(nothing as never)).toThrow(TypeError);
});

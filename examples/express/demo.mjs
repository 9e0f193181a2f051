// Signs up, lets 64 workers search until the budget is spent, and revokes the key.
import { start } from "./app.mjs";

const { port, stop } = await start(0);
const call = async (method, path, { key, body } = {}) => {
  const headers = { ...(key && { authorization: `Bearer ${key}` }), ...(body && { "content-type": "application/json" }) };
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, headers, body: body && JSON.stringify(body) });
  return { status: answer.status, ...(await answer.json()) };
};

const { key, id, budgetCents } = await call("POST", "/signup", { body: { email: "agent@example.com" } });
console.log(`signed up: a key with ${budgetCents} cents a day`);

const statuses = (await Promise.all(Array.from({ length: 64 }, () => call("GET", "/search", { key })))).map((a) => a.status);
const count = (status) => statuses.filter((s) => s === status).length;
console.log(`64 searches at once, 3 cents each: ${count(200)} served, ${count(429)} refused with 429`);

const me = await call("GET", "/sdk-keys/me", { key });
console.log(`used ${me.budgetUsedCents} of ${me.budgetCents} cents, the next day begins at ${me.budgetResetAt}`);
console.log(`a scope it does not have: ${(await call("POST", "/sdk-keys", { key, body: { scopes: ["admin"], budget_cents: 1, expires_in: "1h" } })).error}`);
console.log(`revoked: ${(await call("DELETE", `/sdk-keys/${id}`, { key })).revoked}, then: ${(await call("GET", "/search", { key })).error}`);
await stop();
if (count(200) !== 16 || me.budgetUsedCents !== 48) throw new Error("the budget was not kept");

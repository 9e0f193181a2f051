// The middleware that reserves before the handler and settles after it, in Express 4 and 5, over real HTTP.
import { request as httpRequest } from "node:http";
import { AgentKey, type ReservingOptions, agentKeyMiddleware } from "agentkey";
import type { RequestHandler } from "express";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { TestDatabase, eventually } from "./support/database.js";
import { App, EXPRESS } from "./support/server.js";

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

const log = vi.spyOn(console, "error").mockImplementation(() => {});
beforeEach(() => void log.mockClear());

describe.each(EXPRESS)("%s", (_, express) => {
  let app: App;
  let ran = 0;
  afterEach(() => app.stop());
  const start = async (options: ReservingOptions, handler: RequestHandler, client = ak) => {
    ran = 0;
    app = await App.start(express, (a) => {
      a.get("/", agentKeyMiddleware(client, options), (req, res, next) => {
        ran++;
        return handler(req, res, next);
      });
    });
  };
  const newKey = async (budgetCents: number, budgetPeriod?: "day") =>
    (await ak.create({ accountId: "a", budgetCents, budgetPeriod })).key;
  /** Once nothing is held any more: what is used. */
  const used = (key: string) =>
    eventually("nothing is held any more", async () => {
      const result = await ak.validate(key);
      const limit = result.valid ? undefined : result.limit;
      const [held, cents] = result.valid ? [result.budgetReservedCents, result.budgetUsedCents] : [limit!.reservedCents, limit!.usedCents];
      return held === 0 ? { cents } : undefined;
    }).then(({ cents }) => cents);
  const many = (count: number, key: string) => Promise.all(Array.from({ length: count }, () => app.request("GET", "/", { key })));

  test("200 at once that do not fit: none runs, and nothing is spent", async () => {
    await start({ reserveCents: 101 }, (_req, res) => void res.json({}));
    const key = await newKey(100, "day");
    const answers = await many(200, key);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([429]));
    expect(answers[0]!.body).toEqual({ error: "budget_exceeded" });
    expect(Number(answers[0]!.headers["retry-after"])).toBeGreaterThan(80_000);
    expect([ran, await used(key)]).toEqual([0, 0]);
  });

  test("200 at once of which 50 fit: exactly 50 run", async () => {
    await start({ reserveCents: 60 }, (_req, res) => void res.json({}));
    const key = await newKey(3000);
    const answers = await many(200, key);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(50);
    expect([ran, await used(key)]).toEqual([50, 3000]);
  });

  test("what was really spent counts, less or more than the estimate", async () => {
    const options: ReservingOptions = {
      reserveCents: async (req) => Number(req.query.estimate),
      cost: (_req, res) => res.locals.cents,
    };
    await start(options, (req, res) => {
      res.locals.cents = Number(req.query.cents);
      res.json(req.agentKeyReservation);
    });
    const key = await newKey(100);
    const answer = await app.request("GET", "/?estimate=50&cents=7.2", { key });
    expect(answer.body).toMatchObject({ success: true, budgetReservedCents: 50, budgetRemainingCents: 50 });
    expect(await used(key)).toBe(8);
    expect((await app.request("GET", "/?estimate=92&cents=300", { key })).status).toBe(200);
    expect(await used(key)).toBe(308);
    expect((await app.request("GET", "/?estimate=1&cents=1", { key })).status).toBe(429);
  });

  test("a stream is settled after its end", async () => {
    let sent = 0;
    await start({ reserveCents: 50, cost: () => sent }, async (_req, res) => {
      for (const _ of Array(10)) {
        sent++;
        res.write("x".repeat(10_000));
        expect((await ak.validate(key)).valid && (await db.number("SELECT sum(budget_reserved_cents) FROM sdk_api_keys"))).toBe(50);
      }
      res.end();
    });
    const key = await newKey(100);
    expect((await app.request("GET", "/", { key })).text).toHaveLength(100_000);
    expect(await used(key)).toBe(10);
  });

  test("a handler that throws is settled", async () => {
    await start({ reserveCents: 50, cost: () => 3 }, () => {
      throw new Error("the handler's own");
    });
    const key = await newKey(100);
    expect((await app.request("GET", "/", { key })).status).toBe(500);
    expect(await used(key)).toBe(3);
  });

  test("a client that leaves in the middle is settled", async () => {
    let leave!: () => void;
    await start({ reserveCents: 50, cost: () => 4 }, (_req, res) => {
      res.write("the beginning");
      leave();
    });
    const key = await newKey(100);
    const request = httpRequest({ port: app.port, host: "127.0.0.1", path: "/", headers: { authorization: `Bearer ${key}` } });
    leave = () => request.destroy();
    request.on("error", () => {});
    request.end();
    await eventually("the handler ran", () => ran === 1);
    expect(await used(key)).toBe(4);
  });

  test("a cost that is none, or that fails: the estimate counts", async () => {
    for (const cost of [() => NaN, () => undefined as never, () => Promise.reject(new Error("no idea"))]) {
      await start({ reserveCents: 5, cost }, (_req, res) => void res.json({}));
      const key = await newKey(100);
      await app.request("GET", "/", { key });
      expect(await used(key)).toBe(5);
      expect(log).toHaveBeenCalled();
      if (cost !== undefined) await app.stop();
    }
    await start({ reserveCents: 5 }, (_req, res) => void res.json({}));
  });

  test("a cost alone is recorded afterwards, whatever the budget", async () => {
    await start({ cost: () => 70 }, (_req, res) => void res.json({}));
    const key = await newKey(100);
    for (const total of [70, 140]) {
      expect((await app.request("GET", "/", { key })).status).toBe(200);
      await eventually(`${total} are recorded`, async () => {
        const result = await ak.validate(key);
        return (result.valid ? result.budgetUsedCents : result.limit!.usedCents) === total;
      });
    }
    expect((await app.request("GET", "/", { key })).status).toBe(429);
  });

  test("a key that may not pass reserves nothing, and a fault lets nobody pass", async () => {
    await start({ reserveCents: 1 }, (_req, res) => void res.json({}));
    expect((await app.request("GET", "/", { key: "ak_none" })).status).toBe(401);
    await app.stop();
    const double = {
      validate: (key: string) => ak.validate(key),
      reserve: () => Promise.reject(new Error("the pool is down")),
    } as unknown as AgentKey;
    await start({ reserveCents: 1 }, (_req, res) => void res.json({}), double);
    const answer = await app.request("GET", "/", { key: await newKey(100) });
    expect([answer.status, answer.body, ran]).toEqual([500, { error: "auth_unavailable" }, 0]);
  });
});

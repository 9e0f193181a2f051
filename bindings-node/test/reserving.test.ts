// The middleware that reserves before the handler and settles after it, in Express 4 and 5, over real HTTP.
import { request as httpRequest } from "node:http";
import { AgentKey, type MiddlewareOptions, type ReservingOptions, agentKeyMiddleware, errorFacts } from "agentkey";
import type { Request, RequestHandler } from "express";
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

test("what is known of a charge that failed counts its earlier attempts", async () => {
  const fault = (code: string) => Object.assign(new Error(`fault ${code}`), { code });
  const { key } = await ak.create({ accountId: "a" });
  const failing = (...errors: Error[]) => {
    const query = (sql: string, values?: unknown[]) =>
      sql.includes("pg_attribute") ? db.pool.query(sql, values) : Promise.reject(errors.shift());
    return new AgentKey({ pool: { query } }).trackUsage(key, { costCents: 1, idempotencyKey: "one" }).catch((error) => error);
  };
  const last = fault("42501");
  expect(await failing(fault("ECONNRESET"), last)).toBe(last);
  expect(errorFacts(last)).toEqual({ mayHaveBeenRecorded: true, transient: false, sqlstate: "42501" });
  const only = fault("42501");
  expect(await failing(only)).toBe(only);
  expect(errorFacts(only)).toEqual({ mayHaveBeenRecorded: false, transient: false, sqlstate: "42501" });
});

describe.each(EXPRESS)("%s", (_, express) => {
  let app: App;
  let ran = 0;
  afterEach(() => app.stop());
  const start = async (options: MiddlewareOptions, handler: RequestHandler, client = ak) => {
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

  test("what nobody settles is worth what the door says", async () => {
    for (const [ifExpired, cents] of [["settle", 50], ["release", 0], [undefined, 0]] as const) {
      await start({ reserveCents: 50, reserveTtl: "1h", ifExpired }, async (req, res) => {
        // As if the process had been killed an hour ago.
        await db.run(`UPDATE sdk_api_keys_reservations SET expires_at = now() WHERE id = '${req.agentKeyReservation!.reservationId}'`);
        await ak.sweepReservations();
        res.json(await ak.validate(key));
      });
      const key = await newKey(100);
      expect((await app.request("GET", "/", { key })).body).toMatchObject({ budgetUsedCents: cents, budgetReservedCents: 0 });
      await app.stop();
    }
    const wrong = { reserveCents: 5, ifExpired: "charge" } as unknown as ReservingOptions;
    expect(() => agentKeyMiddleware(ak, wrong)).toThrow(/^Invalid ifExpired: charge; it must be release or settle/);
    await start({}, (_req, res) => void res.end());
  });

  test("the cost hears how the request ended", async () => {
    const ends: unknown[] = [];
    const cost: ReservingOptions["cost"] = (_req, _res, { status, completed, grant }) => {
      ends.push([status, completed, grant.name]);
      return status === 200 && completed ? 3 : 1;
    };
    await start({ reserveCents: 50, cost }, (req, res) => {
      if (req.query.break === undefined) return void res.status(Number(req.query.status)).json({});
      res.write("x");
      res.destroy();
    });
    const key = await newKey(100);
    for (const query of ["status=200", "status=404", "break"]) {
      await app.request("GET", `/?${query}`, { key }).catch(() => undefined);
      await used(key);
    }
    expect(ends).toEqual([
      [200, true, "default"],
      [404, true, "default"],
      [200, false, "default"],
    ]);
    expect(await used(key)).toBe(5);
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

  test("before the handler there is one statement, with a hold or without", async () => {
    for (const options of [{}, { scope: "read" }, { reserveCents: 5, scope: "read" }]) {
      const client = new AgentKey({ pool: db.pool, touchIntervalSeconds: 2 ** 31 - 1 });
      let seen = 0;
      await start(options, (_req, res) => void ((seen = client.stats().statements), res.json({})), client);
      const key = await newKey(100);
      const counts: number[] = [];
      for (let n = 0; n < 5; n++) {
        const before = client.stats().statements;
        expect((await app.request("GET", "/", { key })).status).toBe(200);
        counts.push(seen - before);
        await used(key);
        await eventually("everything is recorded", () => client.stats().pending === 0);
      }
      // The first request also asks for the table's columns, and its use is noted; now and then they are asked for again.
      expect(counts.slice(1).sort().slice(0, 3), JSON.stringify(options)).toEqual([1, 1, 1]);
      await client.close();
      await app.stop();
    }
    await start({}, (_req, res) => void res.end());
  });

  test("a client that left before the handler ran is let in by nobody, and pays nothing", async () => {
    let asked!: () => void;
    const isAsked = new Promise<void>((resolve) => (asked = resolve));
    const estimate = async (req: Request) => {
      asked();
      await new Promise((resolve) => req.socket.once("close", resolve));
      return 50;
    };
    await start({ reserveCents: estimate, cost: () => 7 }, (_req, res) => void res.json({}));
    const key = await newKey(100);
    const request = httpRequest({ port: app.port, host: "127.0.0.1", path: "/", headers: { authorization: `Bearer ${key}` } });
    request.on("error", () => {});
    request.end();
    await isAsked;
    request.destroy();
    await eventually("the reservation has ended", async () => {
      return (await db.text(`SELECT string_agg(state, ' ') FROM sdk_api_keys_reservations r JOIN sdk_api_keys k ON k.id::text = r.key_id::text WHERE k.key_hash = encode(sha256('${key}'), 'hex')`)) === "released";
    });
    expect([ran, await used(key)]).toEqual([0, 0]);
  });

  test("close waits for a request under way and for what it costs, but not for ever", async () => {
    const client = new AgentKey({ pool: db.pool });
    let finish!: () => void;
    const cost = () => new Promise<number>((resolve) => setImmediate(resolve, 7));
    await start({ reserveCents: 50, cost }, (_req, res) => void (finish = () => res.json({})), client);
    const key = await newKey(100);
    const answer = app.request("GET", "/", { key });
    await eventually("the handler ran", () => ran === 1);
    let isClosed = false;
    const closing = client.close().then(() => (isClosed = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect([isClosed, await client.validate(key)]).toMatchObject([false, { valid: true, budgetReservedCents: 50 }]);
    finish();
    expect((await answer).status).toBe(200);
    await closing;
    await expect(client.validate(key)).rejects.toMatchObject({ code: "closed" });
    expect(await ak.validate(key)).toMatchObject({ budgetReservedCents: 0, budgetUsedCents: 7 });
    await app.stop();

    const heard: string[] = [];
    const onError = (message: string) => {
      heard.push(message);
      throw new Error("a fault of onError is logged");
    };
    const impatient = new AgentKey({ pool: db.pool, closeTimeoutMs: 20, onError });
    await start({ reserveCents: 50 }, () => {}, impatient);
    const hanging = app.request("GET", "/", { key }).catch(() => undefined);
    await eventually("the handler ran", () => ran === 1);
    await impatient.close();
    await app.stop();
    await hanging;
    expect(String(await eventually("it is logged", () => log.mock.calls[0]))).toMatch(/is not recorded: closed/);
    const id = await db.number("SELECT max(id) FROM sdk_api_keys");
    expect(heard).toEqual([expect.stringMatching(new RegExp(`^what a request cost \\(50000000 micro-cents, key ${id}, reservation [0-9a-f-]{36}\\) is not recorded`))]);
    expect(String(log.mock.calls[1])).toMatch(/onError failed.*a fault of onError is logged/);
    // What it held ends by itself.
    await db.run("UPDATE sdk_api_keys_reservations SET expires_at = now() WHERE state = 'pending'");
    expect(await ak.sweepReservations()).toBe(1);
  });

  test("whoever may not pass is told why, as without a reservation", async () => {
    await start({ reserveCents: 5, scope: "write" }, (_req, res) => void res.json({}));
    const [reader, revoked, expired] = await Promise.all([
      ak.create({ accountId: "a", scopes: ["read"] }),
      ak.create({ accountId: "a" }),
      ak.create({ accountId: "a", expiresIn: "0h" }),
    ]);
    await ak.revoke(revoked.id);
    const answers = [];
    for (const key of ["ak_none", revoked.key, expired.key, reader.key, await newKey(4)]) {
      const { status, body } = await app.request("GET", "/", { key });
      answers.push([status, body]);
    }
    expect(answers).toEqual([
      [401, { error: "invalid" }],
      [401, { error: "revoked" }],
      [401, { error: "expired" }],
      [403, { error: "insufficient_scope", required: "write", available: ["read"] }],
      [429, { error: "budget_exceeded" }],
    ]);
    expect(ran).toBe(0);
  });

  test("the handler sees the key as validate answers it, and the reservation", async () => {
    await start({ reserveCents: { usd: 0.05 } }, (req, res) => void res.json([req.agentKey, req.agentKeyReservation]));
    const key = await newKey(100, "day");
    const before = await ak.validate(key);
    const { body } = await app.request("GET", "/", { key });
    expect(body[0]).toEqual(before);
    expect(body[1]).toMatchObject({ success: true, budgetReservedCents: 5, budgetRemainingCents: 95, grant: before });
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

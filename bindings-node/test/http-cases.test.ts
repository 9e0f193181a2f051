// The shared cases of requests at a guarded door (tests/cases/http), over real HTTP, through the servers of Node.
import { readFileSync, readdirSync } from "node:fs";
import { type IncomingMessage, type RequestListener, type Server, type ServerResponse, createServer, request as httpRequest } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import middie from "@fastify/middie";
import { AgentKey, type MiddlewareOptions, agentKeyMiddleware } from "agentkey";
import "reflect-metadata";
import { Controller, Get, Module, Req, Res } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { FastifyAdapter } from "@nestjs/platform-fastify";
import connect from "connect";
import type { Request, RequestHandler, Response } from "express";
import fastify from "fastify";
import Koa from "koa";
import koaConnect from "koa-connect";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { TestDatabase, eventually } from "./support/database.js";
import { EXPRESS } from "./support/server.js";

interface Handler {
  status?: number;
  throws?: boolean;
  leaves?: boolean;
  missing?: boolean;
  charges?: any[];
}

interface Case {
  name: string;
  note?: string;
  doors?: string[];
  mustFail?: boolean;
  key?: object;
  sql?: string;
  door?: { scope?: string; reserve?: any; billErrors?: boolean; budgetHeaders?: boolean; exceededStatus?: 402 | 429; apiKeyHeader?: string };
  cost?: { says?: any; fails?: string; sql?: string };
  handler?: Handler;
  request?: { method?: string; authorization?: string | null; apiKey?: string };
  response?: { status: number; body?: unknown; headers?: Record<string, string> };
  spentMicrocents?: number;
  logs?: string;
}

const MEMBERS = ["name", "note", "doors", "mustFail", "key", "sql", "door", "cost", "handler", "request", "response", "spentMicrocents", "logs"];
const FOLDER = join(import.meta.dirname, "../../tests/cases/http");

function casesOf(file: string): Case[] {
  const { about, door, cases, ...more } = JSON.parse(readFileSync(join(FOLDER, file), "utf8")) as { about: string; door?: Case["door"]; cases: Case[] };
  const unknown = [...Object.keys(more), ...cases.flatMap((c) => Object.keys(c).filter((name) => !MEMBERS.includes(name)))];
  if (unknown.length > 0 || !about || cases.length === 0) throw new Error(`${file}: unknown members ${unknown.join(", ")}, or no cases`);
  return cases.map((c) => ({ ...c, door: c.door ?? door }));
}

type Handle = (req: IncomingMessage, res: ServerResponse) => void;
type Serve = (guard: RequestHandler, handle: Handle | undefined) => Promise<Server>;

const listening = (server: Server): Promise<Server> => new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));

/** The doors by the name that cases have for them, and the servers that are such. */
const DOORS: [server: string, door: string, serve: Serve][] = [
  ...EXPRESS.map(([name, express]): [string, string, Serve] => [
    name,
    "express",
    (guard, handle) => {
      const app = express();
      app.use(guard);
      if (handle) app.get("/", handle as unknown as RequestHandler);
      app.use(((_error, _req, res, _next) => void res.status(500).end()) as import("express").ErrorRequestHandler);
      return listening(createServer(app));
    },
  ]),
  [
    "node:http",
    "http",
    (guard, handle) => {
      const listener: RequestListener = (req, res) => {
        const end = (status: number) => void ((res.statusCode = status), res.end());
        guard(req as Request, res as Response, (error?: unknown) => {
          if (error) return end(500);
          if (!handle) return end(404);
          try {
            handle(req, res);
          } catch {
            end(500);
          }
        });
      };
      return listening(createServer(listener));
    },
  ],
  [
    "Connect",
    "http",
    (guard, handle) => {
      const app = connect();
      app.use(guard as unknown as connect.NextHandleFunction);
      if (handle) app.use("/", handle);
      app.use(((_error: unknown, _req: unknown, res: ServerResponse, _next: unknown) => void ((res.statusCode = 500), res.end())) as connect.ErrorHandleFunction);
      return listening(createServer(app));
    },
  ],
  [
    "Koa with koa-connect",
    "http",
    (guard, handle) => {
      const app = new Koa();
      app.silent = true;
      app.use(koaConnect(guard as never));
      if (handle) {
        app.use((context) => {
          if (context.path !== "/" || context.method !== "GET") return;
          context.respond = false;
          context.res.statusCode = 200; // 404 until somebody says otherwise
          try {
            handle(context.req, context.res);
          } catch (error) {
            context.respond = true;
            throw error;
          }
        });
      }
      return listening(createServer(app.callback()));
    },
  ],
  [
    "Fastify with middie",
    "http",
    async (guard, handle) => {
      const app = fastify();
      await app.register(middie);
      app.use(guard as never);
      if (handle) {
        app.get("/", (request, reply) => {
          handle(request.raw, reply.raw);
          reply.hijack();
        });
      }
      await app.listen({ port: 0, host: "127.0.0.1" });
      return app.server as Server;
    },
  ],
  [
    "Nest on Fastify",
    "http",
    async (guard, handle) => {
      class Handler {
        get(request: { raw: IncomingMessage }, reply: { raw: ServerResponse; hijack(): void }): void {
          handle!(request.raw, reply.raw);
          reply.hijack();
        }
      }
      // Decorators as TypeScript would apply them.
      Controller()(Handler);
      Get("/")(Handler.prototype, "get", Object.getOwnPropertyDescriptor(Handler.prototype, "get")!);
      Req()(Handler.prototype, "get", 0);
      Res()(Handler.prototype, "get", 1);
      class Application {}
      Module({ controllers: handle ? [Handler] : [] })(Application);
      const app = await NestFactory.create(Application, new FastifyAdapter(), { logger: false });
      app.use(guard);
      await app.listen(0, "127.0.0.1");
      return app.getHttpServer() as Server;
    },
  ],
];

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
let server: Server;
let isOver = false;
beforeEach(() => {
  log.mockClear();
  isOver = false;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function optionsOf({ door = {}, cost }: Case, id: number): MiddlewareOptions {
  const { scope, reserve, ...others } = door;
  const says = async (): Promise<any> => {
    isOver = true;
    if (cost!.sql) await db.run(cost!.sql.replaceAll("{id}", String(id)));
    if (cost!.fails !== undefined) throw new Error(cost!.fails);
    return cost!.says ?? undefined;
  };
  return { scope, reserveCents: reserve, ...others, cost: cost && says };
}

function handleOf({ status = 200, throws, leaves, missing, charges = [] }: Handler, leave: () => void): Handle | undefined {
  if (missing) return undefined;
  return (req, res) => {
    for (const amount of charges) (req as Request).agentKey!.charge!(amount);
    if (throws) throw new Error("the handler's own");
    if (leaves) {
      res.write("the beginning");
      return leave();
    }
    res.statusCode = status;
    res.setHeader("Content-Type", "application/json");
    res.end('{"ok":true}');
  };
}

async function run(c: Case, serve: Serve): Promise<void> {
  const { key, id } = await ak.create((c.key ?? { accountId: "a", budgetCents: 100 }) as { accountId: string });
  if (c.sql) await db.run(c.sql.replaceAll("{id}", String(id)));
  let leave = (): void => {};
  server = await serve(agentKeyMiddleware(ak, optionsOf(c, id)), handleOf(c.handler ?? {}, () => leave()));
  const authorization = c.request?.authorization === undefined ? "Bearer {key}" : c.request.authorization;
  const headers: Record<string, string> = authorization === null ? {} : { authorization: authorization.replace("{key}", key) };
  if (c.request?.apiKey !== undefined) headers["X-Api-Key"] = c.request.apiKey.replace("{key}", key);
  const answer = await new Promise<{ status?: number; text?: string; headers?: IncomingMessage["headers"] }>((resolve) => {
    const request = httpRequest(
      {
        port: (server.address() as AddressInfo).port,
        host: "127.0.0.1",
        method: c.request?.method ?? "GET",
        path: "/",
        headers,
        agent: false,
      },
      (response) => {
        let text = "";
        response.on("error", () => resolve({}));
        response.on("data", (chunk) => (text += chunk));
        response.on("end", () => resolve({ status: response.statusCode, text, headers: response.headers }));
      },
    );
    leave = () => request.destroy();
    request.on("error", () => resolve({}));
    request.end();
  });
  if (c.response) {
    expect(answer.status).toBe(c.response.status);
    if (c.response.body !== undefined) expect(JSON.parse(answer.text!)).toEqual(c.response.body);
    for (const [name, pattern] of Object.entries(c.response.headers ?? {})) expect(answer.headers![name]).toMatch(new RegExp(pattern));
  }
  if (c.cost && !c.handler?.missing && !c.handler?.charges) await eventually("its cost is asked for", () => isOver);
  if (c.spentMicrocents !== undefined) {
    const held = `SELECT budget_reserved_cents = 0 AND budget_reserved_microcents = 0 FROM sdk_api_keys WHERE id = ${id}`;
    await eventually("nothing is held any more", async () => (await db.text(held)) === "true");
    const used = `SELECT budget_used_cents * 1000000 + budget_used_microcents FROM sdk_api_keys WHERE id = ${id}`;
    const spent = c.spentMicrocents;
    if (spent > 0) await eventually("it is recorded", async () => (await db.number(used)) > 0);
    expect(await db.number(used)).toBe(spent);
  }
  if (c.logs !== undefined) expect(String(await eventually("it is logged", () => log.mock.calls[0]))).toMatch(new RegExp(c.logs));
  else expect(log.mock.calls).toEqual([]);
  expect(JSON.stringify(log.mock.calls)).not.toContain(key);
}

for (const [name, door, serve] of DOORS) {
  describe(name, () => {
    for (const file of readdirSync(FOLDER)) {
      const cases = casesOf(file).filter(({ doors }) => !doors || doors.includes(door));
      describe(file, () => {
        test.each(cases.filter(({ mustFail }) => !mustFail).map((c) => [c.name, c] as const))("%s", (_, c) => run(c, serve));
        for (const c of cases.filter(({ mustFail }) => mustFail)) {
          test(c.name, async () => expect(run(c, serve)).rejects.toThrow());
        }
      });
    }
  });
}

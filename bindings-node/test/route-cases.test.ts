// The shared cases of the self-serve routes (tests/cases/routes), over real HTTP, in Express 4 and 5.
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { AgentKey, type RouteOptions, createAgentKeyRoutes } from "agentkey";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { TestDatabase } from "./support/database.js";
import { App, EXPRESS } from "./support/server.js";

interface Step {
  as?: string;
  send: string;
  body?: unknown;
  status?: number | number[];
  answer?: unknown;
  lacks?: string[];
  keep?: string;
}

interface Case {
  name: string;
  mustFail?: boolean;
  options?: RouteOptions;
  keys?: { as: string; accountId: string; parent?: string }[];
  sql?: string[];
  hold?: { as: string; cents: number }[];
  steps: Step[];
}

const FOLDER = join(import.meta.dirname, "../../tests/cases/routes");

function casesOf(file: string): Case[] {
  const { options, cases } = JSON.parse(readFileSync(join(FOLDER, file), "utf8")) as { options?: RouteOptions; cases: Case[] };
  if (cases.length === 0) throw new Error(`${file}: no cases`);
  return cases.map((c) => ({ ...c, options: c.options ?? options ?? {} }));
}

let db: TestDatabase;
let ak: AgentKey;
let app: App | undefined;
beforeAll(async () => {
  db = await TestDatabase.create();
  ak = new AgentKey({ pool: db.pool });
  await ak.migrate();
});
afterEach(() => app?.stop());
afterAll(async () => {
  await ak.close();
  await db.drop();
});

/** `{name.id}` and `{name.key}` of the keys that there are. */
type Names = Map<string, { id: string; key: string }>;

const fill = (names: Names, text: string): string =>
  text.replace(/\{(\w+)\.(id|key)\}/g, (_, name: string, what: "id" | "key") => names.get(name)![what]);

/** What is expected, in the terms of vitest: objects may have more members. */
function expected(names: Names, value: unknown, got: unknown): unknown {
  if (typeof value === "string" && /^\{\w+\.id\}$/.test(value)) {
    const id = fill(names, value);
    return typeof got === "number" ? Number(id) : id;
  }
  if (Array.isArray(value)) return value.map((each, n) => expected(names, each, (got as unknown[] | undefined)?.[n]));
  if (value === null || typeof value !== "object") return value;
  if ("~" in value) return expect.stringMatching(new RegExp(value["~"] as string));
  const members = Object.entries(value).map(([name, each]) => [name, expected(names, each, (got as Record<string, unknown> | null)?.[name])]);
  return Object.fromEntries(members);
}

async function run(c: Case, express: (typeof EXPRESS)[number][1]): Promise<void> {
  const names: Names = new Map();
  for (const { as, parent, ...options } of c.keys ?? []) {
    const made = await ak.create(parent === undefined ? options : { ...options, parent: names.get(parent)!.id });
    names.set(as, { id: String(made.id), key: made.key });
  }
  for (const sql of c.sql ?? []) await db.run(fill(names, sql));
  for (const { as, cents } of c.hold ?? []) {
    expect(await ak.reserve(names.get(as)!.key, { costCents: cents })).toMatchObject({ success: true });
  }
  app = await App.start(express, (a) => void a.use(createAgentKeyRoutes(ak, { signup: true, ...c.options })));
  for (const { as, send, body, status = 200, answer, lacks = [], keep } of c.steps) {
    const [method, path] = send.split(" ") as [string, string];
    const key = as === undefined ? {} : { key: names.get(as)!.key };
    const got = await app!.request(method, fill(names, path), body === undefined ? key : { ...key, body });
    expect([status].flat(), `${send}: ${got.text}`).toContain(got.status);
    if (answer !== undefined) expect(got.body, send).toMatchObject(expected(names, answer, got.body) as object);
    for (const text of lacks) expect(got.text).not.toContain(fill(names, text));
    if (keep !== undefined) names.set(keep, { id: String(got.body.id), key: got.body.key });
  }
}

test("the package has the description of its routes", () => {
  const shipped = createRequire(join(import.meta.dirname, "../package.json"))("agentkey/openapi.json") as { paths: object };
  expect(shipped).toEqual(JSON.parse(readFileSync(join(import.meta.dirname, "../../core/src/http/openapi.json"), "utf8")));
  expect(Object.keys(shipped.paths)).toContain("/sdk-keys/{id}/rotate");
});

describe.each(EXPRESS)("%s", (_, express) => {
  describe.each(readdirSync(FOLDER))("%s", (file) => {
    const cases = casesOf(file);
    test.each(cases.filter(({ mustFail }) => !mustFail).map((c) => [c.name, c] as const))("%s", (_, c) => run(c, express));
    for (const c of cases.filter(({ mustFail }) => mustFail)) {
      test(c.name, async () => expect(run(c, express)).rejects.toThrow());
    }
  });
});

// The behaviour that every language shares: tests/cases.
import { readFileSync, readdirSync } from "node:fs";
import pg from "pg";
import { expect, test } from "vitest";
import { TestDatabase, originalSql } from "./support/database.js";
import { type Json, fill, isObject } from "./support/expect.js";
import { type Fields, Session } from "./support/session.js";

const directory = new URL("../../tests/cases/", import.meta.url);
const SHARED = ["tables", "setup", "client", "mustFail"];

interface Case {
  name: string;
  tables: Json[];
  setup: string[];
  client: Fields;
  mustFail: boolean;
  steps: Fields[];
}

function only(fields: Fields, names: string[]): void {
  for (const name of Object.keys(fields)) if (!names.includes(name)) throw new Error(`unknown member ${name}`);
}

function read(text: string): Case[] {
  const file = JSON.parse(text) as Fields;
  only(file, ["about", "cases", ...SHARED]);
  return (file.cases as Fields[]).map((own) => {
    only(own, ["name", "steps", ...SHARED]);
    const { tables = ["migrated"], setup = [], client = {}, mustFail = false, name, steps } = { ...file, ...own };
    return { name, tables, setup, client, mustFail, steps } as unknown as Case;
  });
}

async function run(db: TestDatabase, { tables: _, setup, client, steps }: Case, table: Json): Promise<void> {
  const name = (client.tableName as string | undefined) ?? "sdk_api_keys";
  await db.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
  await db.run(`ALTER DATABASE ${db.name} RESET ALL`);
  const types = table === "original" ? { id: "SERIAL", account: "TEXT" } : table;
  if (isObject(types)) await db.run(originalSql(types.id as string, types.account as string, name));
  else if (types !== "migrated" && types !== "none") throw new Error(`unknown table ${JSON.stringify(table)}`);
  for (const sql of setup) await db.run(fill(sql, name, new Map()));
  // Connects after the setup, which may change settings of the database.
  const pool = new pg.Pool({ connectionString: db.url, max: 6 });
  let session: Session | undefined;
  try {
    session = new Session(db, pool, name, client);
    if (table === "migrated") await session.migrate();
    await session.run(steps);
  } finally {
    await (session?.close() ?? pool.end());
  }
}

const files = readdirSync(directory).filter((name) => name.endsWith(".json"));
test("there are cases", () => expect(files.length).toBeGreaterThan(0));

// Files run side by side, each with a database of its own.
test.concurrent.each(files)("%s", { timeout: 300_000 }, async (file) => {
  const db = await TestDatabase.create();
  const failures: string[] = [];
  for (const one of read(readFileSync(new URL(file, directory), "utf8"))) {
    for (const table of one.tables) {
      const problem = await run(db, one, table).then(
        () => (one.mustFail ? "it passed, but it must fail" : undefined),
        (error: Error) => (one.mustFail ? undefined : error.message),
      );
      if (problem) failures.push(`${one.name} (table: ${JSON.stringify(table)})\n${problem}`);
    }
  }
  await db.drop();
  expect(failures.join("\n\n")).toBe("");
});

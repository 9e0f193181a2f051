import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import pg from "pg";

/** The server's URL. `make test` starts a server and sets it. */
export function serverUrl(database?: string): string {
  const url = process.env.DATABASE_URL;
  if (!url) throw new Error("DATABASE_URL is not set: use `make test`, or `tests/postgres.sh run -- npx vitest run`");
  return database === undefined ? url : onDatabase(url, database);
}

export function onDatabase(url: string, database: string): string {
  const parsed = new URL(url);
  parsed.pathname = `/${database}`;
  return parsed.href;
}

async function onServer(sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl() });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/** A database of one test file. */
export class TestDatabase {
  private constructor(
    readonly name: string,
    readonly url: string,
    readonly pool: pg.Pool,
  ) {}

  static async create(max = 10): Promise<TestDatabase> {
    const name = `agentkey_test_${randomBytes(8).toString("hex")}`;
    await onServer(`CREATE DATABASE ${name}`);
    const url = serverUrl(name);
    return new TestDatabase(name, url, new pg.Pool({ connectionString: url, max }));
  }

  async run(sql: string): Promise<number> {
    return (await this.pool.query(sql)).rowCount ?? 0;
  }

  /** The first column of the first row, as text. */
  async text(sql: string): Promise<string | null> {
    const { rows } = await this.pool.query(`SELECT q.value::text AS text FROM (${sql}) AS q(value)`);
    return rows[0].text;
  }

  async number(sql: string): Promise<number> {
    return Number(await this.text(sql));
  }

  /** Every row with its version: two equal snapshots mean that nothing was written. */
  async snapshot(table = "sdk_api_keys"): Promise<string> {
    const rows = `SELECT string_agg(k.ctid::text || ' ' || k.xmin::text || ' ' || k::text, E'\\n' ORDER BY k::text) FROM ${table} k`;
    return (await this.text(rows)) ?? "";
  }

  /** A keys table as the original package leaves it. */
  async originalTable(id = "SERIAL", account = "TEXT", table = "sdk_api_keys"): Promise<void> {
    await this.run(`DROP TABLE IF EXISTS ${table} CASCADE`);
    await this.run(originalSql(id, account, table));
  }

  async drop(): Promise<void> {
    await this.pool.end();
    // A pool ends before its connections do. Postgres waits for them; one that is dropped meanwhile would raise an error.
    await onServer(`DROP DATABASE ${this.name}`).catch((error) => {
      if (error.code !== "55006") throw error;
      return onServer(`DROP DATABASE ${this.name} WITH (FORCE)`);
    });
  }
}

export function originalSql(id: string, account: string, table: string): string {
  const sql = readFileSync(new URL("../../../tests/cases/original.sql", import.meta.url), "utf8");
  return sql.replaceAll("{id}", id).replaceAll("{account}", account).replaceAll("{table}", table);
}

/** Waits until a condition holds, for 20 seconds at most. */
export async function eventually<T>(what: string, condition: () => T | Promise<T>): Promise<NonNullable<T>> {
  const end = Date.now() + 20_000;
  for (;;) {
    const value = await condition();
    if (value) return value as NonNullable<T>;
    if (Date.now() > end) throw new Error(`it never came true that ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

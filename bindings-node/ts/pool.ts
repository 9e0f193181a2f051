import { createHash } from "node:crypto";
import type { Query } from "./driver.js";

/** A pool that belongs to the client. */
export interface OwnPool {
  query: Query;
  end(): Promise<void>;
}

interface PgPool {
  query: Query;
  end(): Promise<void>;
  on(event: "error", listener: (error: Error) => void): void;
}

/** What node-postgres takes for a statement that a connection prepares once. */
export type NamedQuery = (statement: { name: string; text: string; values: (string | null)[] }) => PromiseLike<unknown>;

/** Names statements by their text: whoever shares the connection never takes one for another. */
export function preparing(query: NamedQuery): Query {
  const names = new Map<string, string>();
  return (text, values) => {
    let name = names.get(text);
    if (!name) names.set(text, (name = `agentkey_${createHash("sha256").update(text).digest("hex").slice(0, 32)}`));
    return query({ name, text, values });
  };
}

/** A `pg.Pool` that is made with the first statement. */
export function ownPool(connectionString: unknown): OwnPool {
  if (typeof connectionString !== "string") throw new TypeError("give a pool or a connectionString");
  let pool: PgPool | undefined;
  const open = (): PgPool => {
    const { Pool } = require("pg") as { Pool: new (options: object) => PgPool };
    const opened = new Pool({ connectionString });
    // A connection that is lost while it rests is replaced by the next statement: no reason to end the process.
    opened.on("error", () => {});
    return opened;
  };
  return {
    query: (...statement) => (pool ??= open()).query(...statement),
    end: async () => pool?.end(),
  };
}

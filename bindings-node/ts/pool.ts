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
    query: (text, values) => (pool ??= open()).query(text, values),
    end: async () => pool?.end(),
  };
}

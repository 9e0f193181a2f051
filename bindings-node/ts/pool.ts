import { createHash } from "node:crypto";
import type { Query } from "./driver.js";

/** A pool that belongs to the client. */
export interface OwnPool {
  query: Query;
  connect: Connect;
  end(): Promise<void>;
}

/** A connection for one statement. */
export interface Connection {
  query: Query;
  /** Gives it back; after an error the pool ends it. */
  release(error?: unknown): void;
}

/** A connection, where a query would have to wait for one; else `undefined`. */
export type Connect = () => Promise<Connection> | undefined;

/** A pool of node-postgres. */
interface PgPool {
  readonly idleCount: number;
  readonly totalCount: number;
  readonly waitingCount: number;
  readonly options: { max: number };
  query: Query;
  connect(): Promise<PgClient>;
  end(): Promise<void>;
  on(event: "error", listener: (error: Error) => void): void;
}

interface PgClient {
  query: Query;
  on(event: "error", listener: () => void): void;
  off(event: "error", listener: () => void): void;
  release(error?: unknown): void;
}

/** What node-postgres takes for a statement that a connection prepares once. */
type NamedQuery = (statement: { name: string; text: string; values: (string | null)[] }) => PromiseLike<unknown>;

const names = new Map<string, string>();

/** Names statements by their text: whoever shares the connection never takes one for another. */
export function preparing(query: Query): Query {
  const named = query as unknown as NamedQuery;
  return (text, values) => {
    let name = names.get(text);
    if (!name) names.set(text, (name = `agentkey_${createHash("sha256").update(text).digest("hex").slice(0, 32)}`));
    return named({ name, text, values });
  };
}

const ignore = (): void => {};

/** How to get a connection of a pool whose connections are all in use. `undefined` if the pool does not tell. */
export function connecting(pool: unknown, prepare: boolean): Connect | undefined {
  if (!isPgPool(pool)) return undefined;
  return () => {
    const isBusy = pool.waitingCount > 0 || (pool.idleCount === 0 && pool.totalCount >= pool.options.max);
    return isBusy ? pool.connect().then((client) => connection(client, prepare)) : undefined;
  };
}

function connection(client: PgClient, prepare: boolean): Connection {
  // A connection that ends during a query rejects the query; without a listener it would end the process, too.
  client.on("error", ignore);
  const query: Query = client.query.bind(client);
  return {
    query: prepare ? preparing(query) : query,
    release(error) {
      client.off("error", ignore);
      client.release(error);
    },
  };
}

/**
 * Whether this is a pool of node-postgres. One whose `query` the application replaced must be asked by that alone: it may
 * log, or set a role.
 */
function isPgPool(pool: unknown): pool is PgPool {
  const owner = (name: string): unknown => {
    let at = pool as object | null;
    while (at && !Object.hasOwn(at, name)) at = Object.getPrototypeOf(at) as object | null;
    return at;
  };
  const [query, ...others] = ["query", "connect", "totalCount"].map(owner);
  const isPlain = query && query !== pool && others.every((other) => other === query);
  return Boolean(isPlain) && typeof (pool as PgPool).options?.max === "number";
}

/** A `pg.Pool` that is made with the first statement. */
export function ownPool(connectionString: unknown, prepare: boolean): OwnPool {
  if (typeof connectionString !== "string") throw new TypeError("give a pool or a connectionString");
  let pool: PgPool | undefined;
  let connect: Connect | undefined;
  const open = (): PgPool => {
    const { Pool } = require("pg") as { Pool: new (options: object) => PgPool };
    const opened = new Pool({ connectionString });
    // A connection that is lost while it rests is replaced by the next statement: no reason to end the process.
    opened.on("error", ignore);
    connect = connecting(opened, prepare);
    return opened;
  };
  return {
    query: (...statement) => (pool ??= open()).query(...statement),
    connect: () => connect?.(),
    end: async () => pool?.end(),
  };
}

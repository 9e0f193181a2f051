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
function nameOf(text: string): string {
  let name = names.get(text);
  if (!name) names.set(text, (name = `agentkey_${createHash("sha256").update(text).digest("hex").slice(0, 32)}`));
  return name;
}

/**
 * What a server says of a statement that it has not prepared, or has prepared before, or of whose tables it has forgotten
 * the plan: it is behind a pooler, or somebody ran `DISCARD ALL`. The statement did nothing.
 */
const UNPREPARED = new Set(["26000", "42P05", "0A000"]);

/** Whether a client's statements are prepared. */
export class Preparing {
  #isOn: boolean;

  /** `auto`: on a pool of node-postgres whose `query` is its own, until a statement turns out not to be prepared. */
  constructor(
    private readonly choice: boolean | "auto",
    private readonly pool: unknown,
  ) {
    this.#isOn = choice === "auto" ? isPgPool(pool) : choice;
  }

  /** Sends statements through `query`, prepared or not. */
  query(query: Query): Query {
    const named = query as unknown as NamedQuery;
    return (text, values) => {
      if (!this.#isOn || (this.choice === "auto" && isReplaced(this.pool))) return query(text, values);
      const result = named({ name: nameOf(text), text, values });
      if (this.choice !== "auto") return result;
      return result.then(undefined, (error: unknown) => {
        if (!UNPREPARED.has((error as { code?: string } | null)?.code ?? "")) throw error;
        this.#isOn = false;
        return query(text, values);
      });
    };
  }
}

const ignore = (): void => {};

/** How to get a connection of a pool whose connections are all in use. `undefined` if the pool does not tell. */
export function connecting(pool: unknown, preparing: Preparing): Connect | undefined {
  if (!isPgPool(pool)) return undefined;
  return () => {
    if (isReplaced(pool)) return undefined;
    const isBusy = pool.waitingCount > 0 || (pool.idleCount === 0 && pool.totalCount >= pool.options.max);
    return isBusy ? pool.connect().then((client) => connection(client, preparing)) : undefined;
  };
}

function connection(client: PgClient, preparing: Preparing): Connection {
  // A connection that ends during a query rejects the query; without a listener it would end the process, too.
  client.on("error", ignore);
  return {
    query: preparing.query(client.query.bind(client)),
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

/** Whether the application has put a function of its own in the place of its pool's `query`, also long after it made it. */
function isReplaced(pool: unknown): boolean {
  return Object.hasOwn(pool as object, "query");
}

/** A `pg.Pool` that is made with the first statement. */
export function ownPool(connectionString: unknown, prepare: boolean | "auto"): OwnPool {
  if (typeof connectionString !== "string") throw new TypeError("give a pool or a connectionString");
  let pool: PgPool | undefined;
  let query: Query | undefined;
  let connect: Connect | undefined;
  const open = (): Query => {
    const { Pool } = require("pg") as { Pool: new (options: object) => PgPool };
    const opened = (pool = new Pool({ connectionString }));
    // A connection that is lost while it rests is replaced by the next statement: no reason to end the process.
    opened.on("error", ignore);
    const preparing = new Preparing(prepare, opened);
    connect = connecting(opened, preparing);
    return preparing.query(opened.query.bind(opened));
  };
  return {
    query: (...statement) => (query ??= open())(...statement),
    connect: () => connect?.(),
    end: async () => pool?.end(),
  };
}

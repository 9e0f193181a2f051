// Other servers: a PgBouncer, and a Postgres that a test may kill.
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import pg from "pg";
import { eventually, onDatabase, serverUrl } from "./database.js";

const launcher = fileURLToPath(new URL("../../../tests/postgres.sh", import.meta.url));

/** A Postgres of one test. */
export class TestServer {
  private constructor(
    readonly dir: string,
    readonly url: string,
  ) {}

  static async start(): Promise<TestServer> {
    const base = process.env.AGENTKEY_PG_RUN ?? tmpdir();
    const dir = join(base, `agentkey-test-${randomBytes(8).toString("hex")}`);
    const { stdout } = await promisify(execFile)(launcher, ["start", dir]);
    return new TestServer(dir, stdout.trim());
  }

  /** `crash` is a SIGKILL to all of its processes; `restart` keeps port and data. */
  async do(command: "crash" | "restart" | "stop"): Promise<void> {
    await promisify(execFile)(launcher, [command, this.dir]);
  }

  async drop(): Promise<void> {
    await this.do("crash");
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export interface Pooler {
  url(database: string): string;
  stop(): void;
}

const pgbouncer = ["/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer"].find((path) =>
  existsSync(path),
);

/** tests/setup.sh installs it; only a developer may go on without. */
export const hasPooler = pgbouncer !== undefined || process.env.CI !== undefined;

/** A PgBouncer in transaction mode with three server connections. */
export async function startPooler(): Promise<Pooler> {
  if (!pgbouncer) throw new Error("pgbouncer is missing: tests/setup.sh installs it");
  const server = new URL(serverUrl());
  const dir = mkdtempSync(join(tmpdir(), "agentkey-pgbouncer-"));
  const port = await freePort();
  writeFileSync(join(dir, "users"), `"${server.username}" "${decodeURIComponent(server.password)}"\n`, { mode: 0o644 });
  const settings = `[databases]
* = host=${server.hostname} port=${server.port || 5432}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${dir}/users
pool_mode = transaction
default_pool_size = 3
user = nobody
`;
  writeFileSync(join(dir, "settings"), settings);
  const child = spawn(pgbouncer, ["-q", join(dir, "settings")], { stdio: "ignore" });
  const url = new URL(server.href);
  [url.hostname, url.port] = ["127.0.0.1", String(port)];
  await eventually("the pooler answers", async () => {
    const client = new pg.Client({ connectionString: url.href });
    client.on("error", () => {});
    return client.connect().then(
      () => client.end().then(() => true),
      () => false,
    );
  });
  return {
    url: (database) => onDatabase(url.href, database),
    stop() {
      child.kill("SIGKILL");
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

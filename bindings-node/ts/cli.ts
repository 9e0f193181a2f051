#!/usr/bin/env node
// The command line. The core decides each step; here it is done.
import { fstatSync, readSync, statSync } from "node:fs";
import { devNull } from "node:os";
import { createInterface } from "node:readline";
import * as native from "../native/native.js";
import { Driver, type Query } from "./driver.js";
import { type OwnPool, ownPool } from "./pool.js";

/** The client of a run: made with its first call. */
class Client {
  readonly driver: Driver;
  readonly #pool: OwnPool;

  constructor(command: native.CommandLine) {
    const url = command.databaseUrl ?? "";
    if (!/^postgres(ql)?:\/\//.test(url)) {
      const message = "Invalid database URL: node-postgres takes postgresql://user:password@host:port/database";
      throw Object.assign(new Error(message), { code: "invalid_dsn" });
    }
    const engine = native.Engine.ofCommand(command);
    // Nothing is prepared: a run makes few calls, and a pooler may be between.
    this.#pool = ownPool(url, false);
    this.driver = new Driver(engine, named(this.#pool.query), tell);
  }

  async close(): Promise<void> {
    await this.driver.close();
    await this.#pool.end();
  }
}

/** A fault that nobody waits for. Values of the table are in it: none steers the terminal. */
function tell(message: string): void {
  process.stderr.write(`${message.replace(/\p{Cc}/gu, "?")}\n`);
}

/** Node names several attempts to connect only in their parts. */
function named(query: Query): Query {
  return (text, values) =>
    query(text, values).then(undefined, (error: { message?: string; errors?: Error[] }) => {
      if (error.message === "" && error.errors?.length) {
        error.message = error.errors.map((part) => part.message).join("; ");
      }
      throw error;
    });
}

function write(text: string, toError: boolean): Promise<boolean> {
  const stream = toError ? process.stderr : process.stdout;
  return new Promise((resolve) => stream.write(text, (error) => resolve(!error)));
}

function line(): Promise<string | undefined> {
  const reader = createInterface({ input: process.stdin });
  return new Promise((resolve) => {
    reader.once("line", (text) => {
      resolve(text);
      reader.close();
    });
    reader.once("close", () => resolve(undefined));
  });
}

/**
 * Whether nothing was at standard output when the process began. Node puts the null device there, to read and to write. A
 * redirection to the null device only writes: it is meant.
 */
function outputIsClosed(): boolean {
  if (process.platform === "win32") return false;
  const OUTPUT = 1;
  let output;
  try {
    output = fstatSync(OUTPUT);
  } catch {
    // There is none.
    return true;
  }
  if (!output.isCharacterDevice() || output.rdev !== statSync(devNull).rdev) return false;
  try {
    readSync(OUTPUT, Buffer.alloc(1));
    return true;
  } catch {
    // It was opened to write.
    return false;
  }
}

async function run(): Promise<number> {
  const terminals = [process.stdin, process.stdout, process.stderr].map((stream) => stream.isTTY === true);
  // Whoever stops reading is heard of where it is written.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  const environment = Object.fromEntries(Object.entries(process.env).filter(([, value]) => value !== undefined));
  const command = new native.CommandLine(process.argv.slice(2), environment as Record<string, string>, terminals, outputIsClosed());
  let client: Client | undefined;
  for (;;) {
    const step = command.next();
    switch (step.kind) {
      case "write":
        if (!(await write(step.text ?? "", step.toError))) command.unwritable();
        break;
      case "call":
        try {
          client ??= new Client(command);
        } catch (error) {
          const { code, message } = error as { code?: string; message?: string };
          command.failed(code, String(message));
          break;
        }
        // The command has the answer, and the error.
        await client.driver.call((engine) => engine.submitCommand(command)).catch(() => {});
        break;
      case "ask":
        command.told(await line());
        break;
      case "pause":
        await new Promise((resolve) => setTimeout(resolve, step.milliseconds ?? 0));
        break;
      case "exit":
        await client?.close();
        return step.code ?? 1;
    }
  }
}

run().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    console.error(error);
    process.exitCode = 1;
  },
);

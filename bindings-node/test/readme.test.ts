// The code of the READMEs: compiled under `strict` as it stands, and run.
import { execFile, spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { TestDatabase, eventually } from "./support/database.js";

const here = fileURLToPath(new URL("..", import.meta.url));
const [QUICK_START, CAPS, ERRORS] = examples(`${here}/README.md`) as [string, string, string];

test("the example of reservations and parents does what it says", async () => {
  const directory = `${here}/.readme-caps`;
  mkdirSync(directory, { recursive: true });
  const db = await TestDatabase.create();
  try {
    writeFileSync(`${directory}/caps.mts`, CAPS);
    await compile(directory, "caps.mts");
    const env = { ...process.env, DATABASE_URL: db.url };
    const { stdout } = await promisify(execFile)(process.execPath, ["caps.mjs"], { cwd: directory, env });
    expect(stdout).toBe("alice@example.com\n13 13 287\nfalse\n");
    expect(await db.text("SELECT string_agg(budget_used_cents || '.' || budget_used_microcents, ' ') FROM sdk_api_keys")).toBe(
      "17.340000 17.340000",
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
    await db.drop();
  }
});

test("the example of errors says what it says", async () => {
  const directory = `${here}/.readme-errors`;
  mkdirSync(directory, { recursive: true });
  try {
    writeFileSync(`${directory}/errors.mts`, ERRORS);
    await compile(directory, "errors.mts");
    const { stdout } = await promisify(execFile)(process.execPath, ["errors.mjs"], { cwd: directory });
    expect(stdout).toBe("false true undefined\n");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("the quick start does what it says", async () => {
  expect(examples(`${here}/../README.md`)).toEqual([QUICK_START]);
  const directory = `${here}/.readme`;
  mkdirSync(directory, { recursive: true });
  const db = await TestDatabase.create();
  try {
    writeFileSync(`${directory}/start.mts`, QUICK_START);
    await compile(directory, "start.mts");
    const port = await freePort();
    const app = spawn(process.execPath, ["start.mjs"], {
      cwd: directory,
      env: { ...process.env, DATABASE_URL: db.url, PORT: String(port) },
      stdio: ["ignore", "pipe", "inherit"],
    });
    let printed = "";
    app.stdout.on("data", (chunk) => (printed += chunk));
    try {
      const url = `http://127.0.0.1:${port}/search`;
      await eventually("the app listens", () => fetch(url).then((answer) => answer.status === 401, () => false));
      await eventually("it has said its key", () => printed.endsWith("\n"));
      const answer = await fetch(url, { headers: { authorization: `Bearer ${printed.trim()}` } });
      expect([answer.status, await answer.json()]).toEqual([200, { account: "acct_1" }]);
      // What is held is settled once the response has ended.
      const balance = "SELECT budget_used_cents || ' ' || budget_reserved_cents FROM sdk_api_keys";
      await eventually("12 cents are recorded", async () => (await db.text(balance)) === "12 0");
    } finally {
      app.kill();
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
    await db.drop();
  }
});

async function compile(directory: string, file: string): Promise<void> {
  const options = ["--strict", "--skipLibCheck", "--target", "es2022", "--module", "node16", "--moduleResolution", "node16"];
  const tsc = `${here}/node_modules/.bin/tsc`;
  await promisify(execFile)(tsc, [...options, "--esModuleInterop", "--types", "node", file], { cwd: directory }).catch((error) => {
    throw new Error(error.stdout);
  });
}

function examples(readme: string): string[] {
  return [...readFileSync(readme, "utf8").matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!);
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

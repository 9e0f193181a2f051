// The quick start of both READMEs: compiled under `strict` as it stands, and run.
import { execFile, spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { TestDatabase, eventually } from "./support/database.js";

const here = fileURLToPath(new URL("..", import.meta.url));

test("the quick start does what it says", async () => {
  const code = quickStart(`${here}/README.md`);
  expect(quickStart(`${here}/../README.md`)).toBe(code);
  const directory = `${here}/.readme`;
  mkdirSync(directory, { recursive: true });
  const db = await TestDatabase.create();
  try {
    writeFileSync(`${directory}/start.mts`, code);
    const options = ["--strict", "--skipLibCheck", "--target", "es2022", "--module", "node16", "--moduleResolution", "node16"];
    const tsc = `${here}/node_modules/.bin/tsc`;
    await promisify(execFile)(tsc, [...options, "--esModuleInterop", "--types", "node", "start.mts"], { cwd: directory }).catch((error) => {
      throw new Error(error.stdout);
    });
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
      const answer = await fetch(url, { headers: { authorization: `Bearer ${printed.trim()}` } });
      expect([answer.status, await answer.json()]).toEqual([200, { remaining: 488 }]);
    } finally {
      app.kill();
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
    await db.drop();
  }
});

function quickStart(readme: string): string {
  return /```ts\n([\s\S]*?)```/.exec(readFileSync(readme, "utf8"))![1]!;
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

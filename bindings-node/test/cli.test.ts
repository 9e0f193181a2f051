import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestDatabase } from "./support/database.js";

const root = new URL("../", import.meta.url);
const { bin } = JSON.parse(readFileSync(new URL("package.json", root), "utf8"));
const program = fileURLToPath(new URL(bin.agentkey, root));

let db: TestDatabase;
beforeAll(async () => {
  db = await TestDatabase.create();
});
afterAll(() => db.drop());

interface Said {
  code: number | null;
  output: string;
  error: string;
}

async function agentkey(args: string[], env: Record<string, string> = {}): Promise<Said> {
  const child = spawn(process.execPath, [program, ...args], {
    env: { ...process.env, DATABASE_URL: db.url, LC_ALL: "C.UTF-8", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [output, error] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (error += text));
  const [code] = await once(child, "close");
  return { code, output, error };
}

test("the package's program has the commands of the core", async () => {
  expect(await agentkey(["list"])).toMatchObject({ code: 1, output: "", error: expect.stringContaining("agentkey migrate") });
  expect((await agentkey(["migrate"])).output).toBe("The table is complete.\n");
  const created = await agentkey(["create", "--account", "acct_1", "--name", "team", "--budget-usd", "20", "--budget-period", "day"]);
  expect(created).toMatchObject({ code: 0, output: expect.stringMatching(/^ak_[0-9a-f]{48}\n$/) });
  expect(created.error).toContain("$20.00 a day");
  expect(created.error).not.toContain(created.output.trim().slice(3));
  const list = await agentkey(["list"]);
  expect(list).toMatchObject({ code: 0, error: "" });
  expect(list.output).toContain("$20.00/day");
  const [key] = JSON.parse((await agentkey(["list", "--json"])).output);
  expect(key).toMatchObject({ id: 1, name: "team", budgetCents: 2000, reason: null });
  expect(await agentkey(["doctor", "--json"])).toMatchObject({ code: 0 });
  expect(await agentkey(["verify", "--json"])).toMatchObject({ code: 0, output: "[]\n" });
});

test("exit codes and errors are the same", async () => {
  expect(await agentkey(["show", "77"])).toMatchObject({ code: 3, output: "" });
  expect(await agentkey(["create"])).toMatchObject({ code: 2, error: expect.stringContaining("--account") });
  const bad = await agentkey(["create", "--account", "a", "--budget-cents", "-1", "--json"]);
  expect(bad).toMatchObject({ code: 2, output: "" });
  expect(JSON.parse(bad.error)).toMatchObject({ code: "invalid_budget" });
  expect(await agentkey(["list", "--table", "a.b.c"])).toMatchObject({ code: 2, error: expect.stringContaining("Invalid table name") });
  expect(await agentkey(["list"], { DATABASE_URL: "" })).toMatchObject({ code: 2, error: expect.stringContaining("DATABASE_URL") });
  expect(await agentkey(["revoke-all", "--account", "acct_1"])).toMatchObject({ code: 2, error: expect.stringContaining("--yes") });
  for (const url of ["postgresql://u:hunter2@localhost:1/x", "postgresql://u:hunter2@127.0.0.1:1/x", "host=x password=hunter2"]) {
    const said = await agentkey(["list"], { DATABASE_URL: url });
    expect(said.code).toBe(url.startsWith("host") ? 2 : 1);
    expect(said.error).not.toContain("hunter2");
    expect(said.error.length).toBeGreaterThan("error: ".length + 10);
  }
});

test.skipIf(process.platform === "win32")("no secret is made that nobody gets", async () => {
  const inShell = async (args: string, redirection: string) => {
    const child = spawn("sh", ["-c", `exec "$NODE" "$PROGRAM" ${args} ${redirection}`], {
      env: { ...process.env, DATABASE_URL: db.url, NODE: process.execPath, PROGRAM: program },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let error = "";
    child.stderr.setEncoding("utf8").on("data", (text) => (error += text));
    const [code] = await once(child, "close");
    return { code, error };
  };
  const keys = async () => JSON.parse((await agentkey(["list", "--json"])).output).length;
  const before = await keys();
  const refused = { code: 2, error: expect.stringContaining("standard output is closed") };
  expect(await inShell("create --account a", ">&-")).toMatchObject(refused);
  expect(await inShell("rotate 1 --json", ">&-")).toMatchObject(refused);
  expect(await keys()).toBe(before);
  expect(await inShell("create --account a", ">/dev/full")).toMatchObject({ code: 1, error: expect.stringContaining("agentkey revoke") });
  expect((await inShell("create --account a", ">/dev/null")).code).toBe(0);
  expect(await keys()).toBe(before + 2);
});

test("a long list comes out whole, and a reader that leaves ends it", async () => {
  await db.run("INSERT INTO sdk_api_keys (account_id, key_hash, key_prefix, name) SELECT 'b', md5(n::text), 'ak_', repeat('x', 50) FROM generate_series(1, 9000) n");
  const list = await agentkey(["list", "--account", "b", "--limit", "9000", "--json"]);
  expect(JSON.parse(list.output)).toHaveLength(9000);
  // More than the pipe takes: 200 kB sometimes went into it whole, and then there was nobody to hear of.
  const child = spawn(process.execPath, [program, "list", "--limit", "9000"], {
    env: { ...process.env, DATABASE_URL: db.url },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let error = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (error += text));
  child.stdout.once("data", () => child.stdout.destroy());
  const [code] = await once(child, "close");
  expect([code, error]).toEqual([1, ""]);
});

#!/usr/bin/env bash
# Installs the packed packages into an empty project and uses them: import, require, TypeScript, the original's name.
#   scripts/smoke.sh DIRECTORY-OF-TGZ

set -euo pipefail
packages=$(cd "$1" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
cd "$project"

echo '{ "private": true }' >package.json
# No compiler and no Rust: nothing of the sort may run.
npm install --silent --no-audit --no-fund --ignore-scripts "$packages"/*.tgz
loader=$(ls "$packages"/agentkey-[0-9]*.tgz)

use='
const pool = { query: () => Promise.reject(new Error("down")) };
const ak = new AgentKey({ pool });
if (ak.hasScope({ valid: true, scopes: ["a"] }, "b") || !(expiryFromDuration("1h") instanceof Date)) throw new Error("rules");
ak.validate("ak_x").then(
  () => { throw new Error("it answered"); },
  (error) => { if (error.message !== "down") throw error; },
);
if (typeof agentKeyMiddleware(ak) !== "function" || typeof createAgentKeyRoutes(ak) !== "function") throw new Error("express");
if (typeof clerkAgentKeyMiddleware !== "function") throw new Error("clerk");
'
names='AgentKey, agentKeyMiddleware, createAgentKeyRoutes, expiryFromDuration'

try_names() { # $1: the name under which it is installed
    echo "import { $names } from '$1'; import { clerkAgentKeyMiddleware } from '$1/clerk'; $use" >use.mjs
    echo "const { $names } = require('$1'); const { clerkAgentKeyMiddleware } = require('$1/clerk'); $use" >use.cjs
    node use.mjs
    node use.cjs
    cat >use.mts <<TS
import {
  AgentKey, agentKeyMiddleware, createAgentKeyRoutes, expiryFromDuration,
  type AgentKeyOptions, type CreateKeyOptions, type CreateKeyResult, type EnsureSubjectOptions, type ValidateResult,
  type ValidateFailure, type TrackUsageResult, type RouteOptions,
} from "$1";
import { clerkAgentKeyMiddleware, trackByM2M } from "$1/clerk";
import express from "express";
import pg from "pg";

const options: AgentKeyOptions = { pool: new pg.Pool(), tableName: "keys", keyPrefix: "x_", validScopes: ["read"] };
const ak = new AgentKey(options);
const key: CreateKeyOptions = { accountId: "a", scopes: ["read"], budgetCents: 5, budgetPeriod: "day", expiresIn: "7d" };
const subject: EnsureSubjectOptions = { budgetCents: 5 };
const routes: RouteOptions = { signupScopes: ["read"] };
const app = express();
app.use(createAgentKeyRoutes(ak, routes));
app.get("/", agentKeyMiddleware(ak, { scope: "read" }), (req, res) => {
  const caller: ValidateResult | undefined = req.agentKey;
  res.json(caller?.budgetRemainingCents);
});
const verify = async ({ token }: { token: string }) => ({ subject: token, claims: 1 });
app.use(clerkAgentKeyMiddleware({ clerkClient: { m2m: { verify } }, ak, onFirstSeen: (t) => ({ accountId: String(t.claims) }) }));
export async function all(): Promise<Date | null> {
  await ak.migrate();
  const created: CreateKeyResult = await ak.create(key);
  const result: ValidateResult | ValidateFailure = await ak.validate(created.key);
  if (!result.valid) throw new Error(result.reason);
  const [id, account]: [number, string] = [result.id, result.accountId];
  const built: ValidateResult = {
    valid: true, id: created.id, accountId: account, userId: null, scopes: null, budgetCents: null, budgetUsedCents: 0,
    budgetRemainingCents: null, budgetPeriod: null, budgetResetAt: null, expiresAt: null, delegatedBy: null, name: "n",
  };
  if (ak.hasScope(built, "read")) await ak.revoke(id, account);
  const usage: TrackUsageResult = await ak.trackUsage(created.key, { costCents: 1 });
  if (!usage.success) throw new Error(usage.reason);
  await ak.ensureSubject("s", subject);
  await trackByM2M(ak, "s", 1);
  return expiryFromDuration("1h");
}
TS
    cp use.mts use.cts
    cp use.mts use.ts
    local tsc="$here/node_modules/.bin/tsc --noEmit --strict --target es2022 --esModuleInterop"
    $tsc --module node16 --moduleResolution node16 use.mts
    [ "$1" = agentkey ] || return 0
    $tsc --module node16 --moduleResolution node16 use.cts
    $tsc --module esnext --moduleResolution bundler use.ts
}

npm install --silent --no-audit --no-fund --ignore-scripts express pg @types/pg
try_names agentkey
[[ $(npx --no-install agentkey --version) == "agentkey "* ]]
if said=$(npx --no-install agentkey list 2>&1) || [[ $said != *DATABASE_URL* ]]; then
    echo "the program agentkey did not ask for a database: $said" >&2
    exit 1
fi
npm uninstall --silent --no-audit --no-fund --ignore-scripts agentkey
npm install --silent --no-audit --no-fund --ignore-scripts "@katrinalaszlo/agentkey@file:$loader"
[ ! -e node_modules/agentkey ]
try_names @katrinalaszlo/agentkey
if grep -l '"\(pre\|post\)\?install"' "$project"/node_modules/{agentkey*,@katrinalaszlo/agentkey}/package.json; then
    echo "a package has an install script" >&2
    exit 1
fi
echo "installed and used: import, require, TypeScript (node16, bundler), as agentkey and as @katrinalaszlo/agentkey; the program"

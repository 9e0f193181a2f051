// Charges a key a cent at a time, 8 at once, until its budget is spent; prints how often it could.
//   DATABASE_URL=... node interop.mjs KEY, then a line on its input
import { once } from "node:events";
import { createRequire } from "node:module";
import { AgentKey } from "../../bindings-node/dist/index.mjs";

const pg = createRequire(new URL("../../bindings-node/package.json", import.meta.url))("pg");
const key = process.argv[2];
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const ak = new AgentKey({ pool });
if (!(await ak.validate(key)).valid) throw new Error("the key is not valid here");
console.log("ready");
await once(process.stdin, "data");
let granted = 0;
const charge = async () => {
  while ((await ak.trackUsage(key, { costCents: 1 })).success) granted++;
};
await Promise.all(Array.from({ length: 8 }, charge));
console.log(granted);
await ak.close();
await pool.end();
process.exit(0);

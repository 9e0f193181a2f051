// Latency as users see it: requests that come at a fixed rate, whether or not those before are answered, to services with
// and without a check of keys. Nothing is asserted of time; a wrong status ends it with an error.
//   tests/postgres.sh run -- node tests/latency/run.mjs PYTHON
// AGENTKEY_BENCH_RATE: requests a second (default 300). AGENTKEY_BENCH_SECONDS: seconds a turn (default 4).
import { spawn } from "node:child_process";
import { once } from "node:events";
import { Agent, request } from "node:http";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const RATE = Number(process.env.AGENTKEY_BENCH_RATE ?? 300);
const SECONDS = Number(process.env.AGENTKEY_BENCH_SECONDS ?? 4);
const TURNS = 3;
const WARM_UP_SECONDS = 1.5;
const python = process.argv[2];
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const CHECKS = ["none", "by hand", "guard", "charge by hand", "guard, holds"];
const SERVICES = [
  ...[...CHECKS, "better-auth"].map((check) => ({ door: "Express", check, program: [process.execPath, here("server.mjs"), check] })),
  ...CHECKS.map((check) => ({ door: "FastAPI", check, program: [python, here("server.py"), check] })),
];

async function start({ program: [command, ...args] }) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout });
  const first = await Promise.race([once(lines, "line"), once(child, "exit").then(() => undefined)]);
  if (!first) throw new Error(`${args.join(" ")} ended before it listened`);
  return { child, agent: new Agent({ keepAlive: true, maxSockets: 256 }), ...JSON.parse(first[0]) };
}

function ask({ port, keys, agent }, n) {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${keys[(n * 7) % keys.length]}` };
    const asked = request({ agent, headers, host: "127.0.0.1", port }, (response) => {
      response.resume().once("end", () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`status ${response.statusCode}`));
      });
    });
    asked.once("error", reject).end();
  });
}

/** Latencies in ms, from when a request was due to when its answer had come. Requests are due at whole milliseconds. */
async function measure(service, seconds) {
  const latencies = [];
  const underWay = [];
  const begin = performance.now() + 1;
  let sent = 0;
  await new Promise((resolve) => {
    const tick = () => {
      const now = performance.now();
      for (; sent < RATE * seconds; sent++) {
        const due = begin + Math.ceil((sent * 1000) / RATE);
        if (due > now) break;
        underWay.push(ask(service, sent).then(() => latencies.push(performance.now() - due)));
      }
      if (sent < RATE * seconds) setTimeout(tick, 1);
      else resolve();
    };
    tick();
  });
  await Promise.all(underWay);
  return latencies;
}

function percentile(latencies, share) {
  const sorted = latencies.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))].toFixed(2);
}

const running = [];
try {
  for (const service of SERVICES) running.push({ ...service, ...(await start(service)), latencies: [] });
  for (const service of running) await measure(service, WARM_UP_SECONDS);
  // By turns, so that a noisy machine is noisy for all.
  for (let turn = 0; turn < TURNS; turn++) {
    console.error(`==> turn ${turn + 1} of ${TURNS}, ${RATE} requests a second`);
    for (const service of running) service.latencies.push(...(await measure(service, SECONDS)));
  }
  console.table(
    running.map(({ door, check, latencies }) => ({
      service: door,
      check,
      "p50, ms": percentile(latencies, 0.5),
      "p99, ms": percentile(latencies, 0.99),
    })),
  );
} finally {
  for (const { child, agent } of running) {
    agent.destroy();
    child.kill("SIGTERM");
    if (child.exitCode === null) await once(child, "exit");
  }
}

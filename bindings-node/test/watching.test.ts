// What a client shows of itself: counters, OpenTelemetry, faults that nobody waits for.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { context, trace } from "@opentelemetry/api";
import { AggregationTemporality, type DataPoint, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { AgentKey, agentKeyMiddleware } from "agentkey";
import { instrument } from "agentkey/otel";
import express from "express";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { eventually, TestDatabase } from "./support/database.js";

let db: TestDatabase;
beforeAll(async () => {
  db = await TestDatabase.create();
  await new AgentKey({ pool: db.pool }).migrate();
});
afterAll(() => db.drop());

/** The real SDK, in memory. */
function telemetry() {
  const exporter = new InMemorySpanExporter();
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  const metricExporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  const reader = new PeriodicExportingMetricReader({ exporter: metricExporter, exportIntervalMillis: 1e8 });
  const meterProvider = new MeterProvider({ readers: [reader] });
  const points = async (name: string) => {
    metricExporter.reset();
    await meterProvider.forceFlush();
    const scopes = metricExporter.getMetrics().flatMap((resource) => resource.scopeMetrics);
    return scopes.flatMap((scope) => scope.metrics).filter((metric) => metric.descriptor.name === name).flatMap((metric) => metric.dataPoints as DataPoint<number>[]);
  };
  return { tracerProvider, meterProvider, points, spans: () => exporter.getFinishedSpans() };
}

test("counters say what became of calls", async () => {
  const ak = new AgentKey({ pool: db.pool });
  expect(ak.stats()).toEqual({ pending: 0, statements: 0, retries: 0, busyRows: 0, givenUpStatements: 0, failedTouches: 0, unchangedKeys: 0, calls: [], families: [] });
  const { key } = await ak.create({ accountId: "a", budgetCents: 5 });
  await ak.trackUsage(key, { costCents: 3 });
  await ak.trackUsage(key, { costCents: 3 });
  const { calls, families } = ak.stats();
  expect(calls).toContainEqual({ operation: "track_usage", outcome: "success", reason: null, count: 1 });
  expect(calls).toContainEqual({ operation: "track_usage", outcome: "refused", reason: "budget_exceeded", count: 1 });
  const charges = families.find(({ family }) => family === "charge")!;
  expect(charges.batchSizes.counts).toHaveLength(charges.batchSizes.bounds.length + 1);
  expect(charges.statementMicros.sum).toBeGreaterThan(0);
});

test("spans and metrics", async () => {
  const { tracerProvider, meterProvider, points, spans } = telemetry();
  const ak = new AgentKey({ pool: db.pool });
  const { key, id } = await ak.create({ accountId: "a", budgetCents: 100 });
  const instrumentation = instrument(ak, { tracerProvider, meterProvider, attributes: { "db.collection.name": "sdk_api_keys" } });
  await ak.validate(key);
  const held = await ak.reserve(key, { costCents: 50 });
  if (!held.success) throw new Error(held.reason);
  const metadata = { "gen_ai.request.model": "m-1", "gen_ai.usage.input_tokens": 12, other: 1 };
  await ak.trackUsageById(id, { costCents: 1, metadata });
  await ak.settle(held.reservationId, { costCents: 7 });
  await ak.trackUsage(key, { costCents: 500 });
  await expect(ak.reserve(key, { costCents: 1, ttl: "soon" })).rejects.toThrow("Invalid duration: soon");
  await ak.events();
  const told = spans().map((span) => span.attributes);
  expect(spans()[0]).toMatchObject({ name: "agentkey validate", kind: 2 });
  expect(told[0]).toEqual({
    "db.system.name": "postgresql",
    "db.collection.name": "sdk_api_keys",
    "agentkey.operation": "validate",
    "agentkey.outcome": "success",
    "agentkey.key.id": String(id),
  });
  expect(told.map((each) => each["agentkey.operation"])).toEqual(["validate", "reserve", "track_usage", "settle", "track_usage", "reserve"]);
  expect(told[1]).toMatchObject({ "agentkey.key.id": String(id) });
  expect(told[2]).toMatchObject({ "agentkey.key.id": String(id), "gen_ai.request.model": "m-1", "gen_ai.usage.input_tokens": 12 });
  expect(told[2]).not.toHaveProperty("other");
  expect(told[4]).toMatchObject({ "agentkey.outcome": "refused", "agentkey.refusal.reason": "budget_exceeded" });
  expect(told[5]).toMatchObject({ "agentkey.outcome": "error", "error.type": expect.any(String) });
  expect(spans()[5]!.status.code).toBe(2);
  expect(JSON.stringify(told)).not.toContain(key);

  const refused = (await points("agentkey.calls")).filter(({ attributes }) => attributes["agentkey.refusal.reason"] === "budget_exceeded");
  expect(refused).toMatchObject([{ value: 1, attributes: { "db.collection.name": "sdk_api_keys", "agentkey.operation": "track_usage" } }]);
  const of = async (name: string) => (await points(name)).filter(({ attributes }) => attributes["agentkey.family"] === "validate");
  const buckets = await of("agentkey.statement.duration.bucket");
  const [count] = await of("agentkey.statement.duration.count");
  expect(buckets[0]!.attributes.le).toBe("0.0001");
  expect(buckets.at(-1)).toMatchObject({ value: count!.value, attributes: { le: "+Inf" } });
  const values = buckets.map(({ value }) => value);
  expect(values).toEqual([...values].sort((a, b) => a - b));

  const before = spans().length;
  instrumentation.stop();
  await ak.validate(key);
  expect(spans()).toHaveLength(before);
});

test("a middleware's calls have spans, below the request's", async () => {
  const { tracerProvider, spans } = telemetry();
  const ak = new AgentKey({ pool: db.pool });
  const { key, id } = await ak.create({ accountId: "a", budgetCents: 100 });
  instrument(ak, { tracerProvider });
  const app = express();
  app.use(agentKeyMiddleware(ak, { reserveCents: 5, cost: () => 2 }));
  app.get("/", (_req, res) => void res.json({}));
  const server = app.listen(0);
  const { port } = server.address() as { port: number };
  expect((await fetch(`http://127.0.0.1:${port}/`, { headers: { authorization: `Bearer ${key}` } })).status).toBe(200);
  await ak.close();
  server.close();
  expect(spans().map((span) => span.name)).toEqual(["agentkey reserve", "agentkey settle"]);
  expect(JSON.stringify(spans().map((span) => span.attributes))).not.toContain(key);
  expect(await db.number(`SELECT budget_used_cents FROM sdk_api_keys WHERE id = ${id}`)).toBe(2);
  expect(trace.getSpan(context.active())).toBeUndefined();
});

test("nothing of OpenTelemetry is loaded unasked", () => {
  const program = "require('agentkey'); process.exit(Object.keys(require.cache).some((name) => name.includes('opentelemetry')) ? 1 : 0)";
  execFileSync(process.execPath, ["-e", program], { cwd: join(import.meta.dirname, "..") });
});

test("what nobody waits for is told once, with its cause", async () => {
  const own = await TestDatabase.create();
  const log = vi.spyOn(console, "error").mockImplementation(() => {});
  const heard: [string, unknown][] = [];
  const ak = new AgentKey({ pool: own.pool, touchIntervalSeconds: 0, onError: (message, cause) => void heard.push([message, cause]) });
  await ak.migrate();
  const { key } = await ak.create({ accountId: "a" });
  await own.run("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$");
  await own.run("CREATE TRIGGER refuse BEFORE UPDATE OF last_used_at ON sdk_api_keys FOR EACH ROW EXECUTE FUNCTION refuse()");
  await eventually("it is told", async () => {
    expect(await ak.validate(key)).toMatchObject({ valid: true });
    return heard.length > 0;
  });
  await ak.close();
  expect(heard).toEqual([[expect.stringMatching(/^last_used_at was not written: not today/), expect.objectContaining({ code: "P0001" })]]);
  expect(log).toHaveBeenCalledTimes(1);
  log.mockRestore();
  await own.drop();
});

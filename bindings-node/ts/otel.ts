import { type Attributes, type Meter, type MeterProvider, metrics, type Observable, type Span, SpanKind, SpanStatusCode, trace, type TracerProvider } from "@opentelemetry/api";
import { type AgentKey, observe, type Observer } from "./agentkey.js";
import { AgentKeyError } from "./errors.js";
import { type Names, onlyKnown } from "./options.js";
import type { FamilyStats, Histogram, KeyId, Stats } from "./types.js";

/** Options of `instrument`. */
export interface InstrumentOptions {
  /** Default the global one. */
  meterProvider?: MeterProvider;
  /** Default the global one. */
  tracerProvider?: TracerProvider;
  /** Attributes of every metric and span of this client: `{ "db.collection.name": "sdk_api_keys" }`. */
  attributes?: Attributes;
}

const OPTIONS: Names<InstrumentOptions> = { meterProvider: true, tracerProvider: true, attributes: true };
const NAME = "agentkey";
const MICROS = 1e6;
/** What has spans: the calls that an agent's work consists of. */
const TRACED = new Set(["validate", "track_usage", "reserve", "settle", "release", "extend", "refund"]);

/**
 * OpenTelemetry for a client: metrics of what `stats()` says, and a span for each call that looks a
 * key up or moves its budget, also of the middlewares'. No attribute has a raw key. Call it
 * once the providers are registered. `stop()` ends both.
 */
export function instrument<Id extends KeyId>(ak: AgentKey<Id>, options: InstrumentOptions = {}): { stop(): void } {
  onlyKnown("instrument", options, OPTIONS);
  const attributes: Attributes = { "db.system.name": "postgresql", ...options.attributes };
  const stopMetrics = observeStats((options.meterProvider ?? metrics).getMeter(NAME), ak, attributes);
  ak[observe](spans(options.tracerProvider ?? trace, attributes));
  return {
    stop() {
      stopMetrics();
      ak[observe](undefined);
    },
  };
}

/** A span for each call, below the caller's. Statements are not below it: calls share them. */
function spans(provider: Pick<TracerProvider, "getTracer">, attributes: Attributes): Observer {
  const tracer = provider.getTracer(NAME);
  return (op, call, members) => {
    const operation = op.replace(/(?:By(?:Id|Subject))?$/, "").replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (!TRACED.has(operation)) return call();
    const span = tracer.startSpan(`agentkey ${operation}`, {
      kind: SpanKind.CLIENT,
      attributes: { ...attributes, "agentkey.operation": operation },
    });
    const answer = call();
    if (span.isRecording()) noteAsked(span, members);
    answer.then(
      (result) => end(span, result),
      (error) => fail(span, error),
    );
    return answer;
  };
}

/** What the application says of the model and its tokens belongs to the span, by the names of the GenAI conventions. */
function noteAsked(span: Span, members: () => object): void {
  let asked: { keyId?: unknown; metadata?: unknown };
  try {
    asked = members();
  } catch {
    return; // The call was made with the same and says what is wrong.
  }
  if (typeof asked.keyId === "string" || typeof asked.keyId === "number") span.setAttribute("agentkey.key.id", String(asked.keyId));
  for (const [name, value] of Object.entries((asked.metadata ?? {}) as object)) {
    if (name.startsWith("gen_ai.") && ["string", "number", "boolean"].includes(typeof value)) span.setAttribute(name, value);
  }
}

function end(span: Span, result: unknown): void {
  if (span.isRecording()) {
    const { valid, success, reason, id, grant } = (result ?? {}) as Record<string, unknown> & { grant?: { id?: unknown } };
    const isRefused = valid === false || success === false;
    span.setAttribute("agentkey.outcome", isRefused ? "refused" : "success");
    if (isRefused && typeof reason === "string") span.setAttribute("agentkey.refusal.reason", reason);
    const keyId = valid === true ? id : grant?.id;
    if (keyId !== undefined) span.setAttribute("agentkey.key.id", String(keyId));
  }
  span.end();
}

function fail(span: Span, error: unknown): void {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown };
  const kind = error instanceof AgentKeyError || typeof code === "string" ? String(code) : typeof name === "string" ? name : "_OTHER";
  span.setAttributes({ "agentkey.outcome": "error", "error.type": kind });
  span.setStatus({ code: SpanStatusCode.ERROR });
  span.end();
}

/** Counters of `stats()`. A histogram is given as Prometheus has it: how many values are no greater than each bound `le`. */
function observeStats(meter: Meter, ak: { stats(): Stats }, attributes: Attributes): () => void {
  const counter = (name: string, description: string, unit: string) => meter.createObservableCounter(name, { description, unit });
  const histogram = (name: string, description: string, unit: string) => ({
    bucket: counter(`${name}.bucket`, `${description}: how many up to the bound le`, "{value}"),
    count: counter(`${name}.count`, `${description}: how many`, "{value}"),
    sum: counter(`${name}.sum`, `${description}: all together`, unit),
  });
  const pending = meter.createObservableUpDownCounter("agentkey.calls.pending", { description: "Calls that wait or are under way", unit: "{call}" });
  const calls = counter("agentkey.calls", "Calls by what became of them", "{call}");
  const retries = counter("agentkey.statement.retries", "Statements that were tried again", "{statement}");
  const busyRows = counter("agentkey.busy_rows", "How often a row was found locked by somebody else", "{row}");
  const givenUp = counter("agentkey.statement.given_up", "Statements that took longer than their callers wait", "{statement}");
  const failedTouches = counter("agentkey.touches.failed", "Background writes of last_used_at that failed", "{statement}");
  const batches = histogram("agentkey.statement.batch_size", "Calls that shared a statement", "{call}");
  const waits = histogram("agentkey.call.wait", "Time that a call waited for a statement", "s");
  const times = histogram("agentkey.statement.duration", "Time that a statement took", "s");
  const histograms: [typeof batches, (family: FamilyStats) => Histogram, number][] = [
    [batches, (family) => family.batchSizes, 1],
    [waits, (family) => family.waitMicros, MICROS],
    [times, (family) => family.statementMicros, MICROS],
  ];
  const all: Observable[] = [pending, calls, retries, busyRows, givenUp, failedTouches];
  for (const [{ bucket, count, sum }] of histograms) all.push(bucket, count, sum);

  const read: Parameters<Meter["addBatchObservableCallback"]>[0] = (result) => {
    const stats = ak.stats();
    result.observe(pending, stats.pending, attributes);
    result.observe(retries, stats.retries, attributes);
    result.observe(busyRows, stats.busyRows, attributes);
    result.observe(givenUp, stats.givenUpStatements, attributes);
    result.observe(failedTouches, stats.failedTouches, attributes);
    for (const { operation, outcome, reason, count } of stats.calls) {
      const why: Attributes = outcome === "error" ? { "error.type": reason ?? "_OTHER" } : reason === null ? {} : { "agentkey.refusal.reason": reason };
      result.observe(calls, count, { ...attributes, "agentkey.operation": operation, "agentkey.outcome": outcome, ...why });
    }
    for (const family of stats.families) {
      const of = { ...attributes, "agentkey.family": family.family };
      for (const [{ bucket, count, sum }, take, unit] of histograms) {
        const values = take(family);
        let below = 0;
        values.counts.forEach((n, place) => {
          const bound = values.bounds[place];
          result.observe(bucket, (below += n), { ...of, le: bound === undefined ? "+Inf" : String(bound / unit) });
        });
        result.observe(count, below, of);
        result.observe(sum, values.sum / unit, of);
      }
    }
  };
  meter.addBatchObservableCallback(read, all);
  return () => meter.removeBatchObservableCallback(read, all);
}

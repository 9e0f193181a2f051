import type { Engine, NativeStatement } from "../native/native.js";
import type { Connect, Connection } from "./pool.js";
import { clearTimer, microtask, nextTick, now, outside, setTimer } from "./outside.js";
import { AgentKeyError, type ErrorCode, type ErrorFacts, codeOf, fromNative, noteFacts } from "./errors.js";

/** Runs one statement with text parameters: `pool.query`. */
export type Query = (text: string, values: (string | null)[]) => PromiseLike<unknown>;

/** Hears of faults that nobody waits for. */
export type Report = (message: string, cause?: unknown) => void;

interface Caller {
  resolve(result: never): void;
  reject(error: unknown): void;
}

type Answer = [tickets: number[], result: unknown, error?: { code: ErrorCode; message: string } & ErrorFacts];

/** Why a statement has no rows: what the pool rejected with. */
interface Cause {
  error: unknown;
}

/** How soon the engine first looks for statements that take long: they keep no others waiting. */
const SLOW_MS = 100;

/** Runs the engine's statements on the caller's pool and settles the calls' promises. */
export class Driver {
  readonly #engine: Engine;
  readonly #query: Query;
  readonly #connect: Connect | undefined;
  readonly #timeoutMs: number;
  readonly #report: Report;
  readonly #callers = new Map<number, Caller>();
  /** Statements without an answer, and when they were sent. */
  readonly #underWay = new Map<NativeStatement, number>();
  #isScheduled = false;
  #deadline: NodeJS.Timeout | undefined;
  #watchesAt = 0;
  #retry: NodeJS.Timeout | undefined;
  /** When the timer for retries fires. */
  #retryAt = 0;
  /** The first of the faults that the engine answered by trying again. */
  #retried: Cause | undefined;
  #closed: { promise: Promise<void>; resolve: () => void } | undefined;

  constructor(engine: Engine, query: Query, report: Report, connect?: Connect) {
    this.#engine = engine;
    this.#query = query;
    this.#report = report;
    this.#connect = connect;
    this.#timeoutMs = engine.timeoutMs;
  }

  /** Submits a request and promises its result. */
  call<T>(submit: (engine: Engine) => number): Promise<T> {
    let ticket: number;
    try {
      ticket = submit(this.#engine);
    } catch (error) {
      return Promise.reject(fromNative(error));
    }
    this.#schedule();
    return new Promise<T>((resolve, reject) => {
      this.#callers.set(ticket, { resolve, reject });
      if (this.#callers.size === 1) this.#watch();
    });
  }

  /** Refuses new calls and waits for those under way and for the noting of last uses. */
  close(): Promise<void> {
    if (!this.#closed) {
      let resolve!: () => void;
      const promise = new Promise<void>((r) => (resolve = r));
      this.#closed = { promise, resolve };
      this.#engine.close();
      this.#watch();
      this.#pump();
    }
    return this.#closed.promise;
  }

  /** Calls of one burst share a statement: it is sent when the code that makes them has come to its end. */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    microtask(this.#pump);
  }

  /** Settles the calls of a statement, then sends what may be sent now. */
  #answered(cause?: Cause): void {
    // A caller that is alone may end its transaction next: a use is noted before.
    if (this.#isScheduled || this.#engine.isAnswered) return this.#pump(cause);
    if (!this.#settle(cause) && cause) this.#retried ??= cause;
    // Once the code that was answered has come to its end: what it asks next shares the statement. No I/O comes before.
    this.#isScheduled = true;
    nextTick(this.#pump);
  }

  readonly #pump = (cause?: Cause): void => {
    this.#isScheduled = false;
    for (let statement = this.#engine.poll(); statement; statement = this.#engine.poll()) this.#run(statement);
    if (!this.#settle(cause) && cause) this.#retried ??= cause;
    this.#awaitRetry();
    if (this.#callers.size > 0) return;
    if (this.#closed && this.#engine.isIdle && this.#underWay.size === 0) this.#end(this.#closed.resolve);
    else if (!this.#closed) this.#deadline?.unref();
  };

  #run(statement: NativeStatement): void {
    this.#underWay.set(statement, now());
    let connection: Promise<Connection> | undefined;
    try {
      if (this.#connect) connection = outside(this.#connect);
    } catch (error) {
      connection = Promise.reject(error);
    }
    if (!connection) return this.#send(statement, this.#query);
    this.#engine.hold(statement.id);
    connection.then(
      (connection) => this.#begin(statement, connection),
      (error) => this.#failed(statement, error),
    );
  }

  /** A statement that waited for a connection has it: what nobody waits for any more is left out. */
  #begin(held: NativeStatement, connection: Connection): void {
    this.#underWay.delete(held);
    const begun = this.#engine.begin(held.id);
    const statement = begun === true ? held : begun;
    if (!statement) {
      connection.release();
      return this.#pump();
    }
    this.#underWay.set(statement, now());
    this.#send(statement, connection.query, connection.release);
    if (statement !== held) this.#pump();
  }

  #send(statement: NativeStatement, query: Query, release?: Connection["release"]): void {
    // It may take long before the timer would look again.
    if (this.#callers.size > 0 && this.#watchesAt > now() + SLOW_MS) this.#watchIn(SLOW_MS);
    let result: PromiseLike<unknown>;
    try {
      result = outside(() => query(statement.text, statement.values));
    } catch (error) {
      result = Promise.reject(error);
    }
    Promise.resolve(result).then(
      (result) => {
        release?.();
        this.#received(statement, result);
      },
      (error) => {
        release?.(error);
        this.#failed(statement, error);
      },
    );
  }

  #received(statement: NativeStatement, result: unknown): void {
    const rows = rowsOf(result);
    if (rows === undefined) {
      const message = "Unexpected response from the pool: no rows with one text column, as node-postgres answers";
      return this.#failed(statement, new AgentKeyError("unexpected_response", message));
    }
    if (!this.#underWay.delete(statement)) return;
    this.#retried = undefined;
    this.#engine.receive(statement.id, rows);
    this.#answered();
  }

  #failed(statement: NativeStatement, error: unknown): void {
    if (!this.#underWay.delete(statement)) return;
    const { message } = (error ?? {}) as { message?: unknown };
    const code = codeOf(error);
    let cause: Cause | undefined = error === undefined ? undefined : { error };
    // A retry within the caller's transaction only hears that it is aborted: what aborted it says more.
    if (code === "25P02" && this.#retried) cause = this.#retried;
    this.#engine.fail(statement.id, code, typeof message === "string" ? message : "the pool rejected the query");
    this.#answered(cause);
  }

  /** Settles the calls that are answered, if any are. */
  #settle(cause?: Cause): boolean {
    for (const message of this.#engine.reports()) this.#report(message, cause?.error);
    const answers = this.#engine.answers();
    if (answers === null) return false;
    for (const [tickets, result, error] of JSON.parse(answers) as Answer[]) {
      for (let i = 0; i < tickets.length; i++) {
        const ticket = tickets[i]!;
        const caller = this.#callers.get(ticket);
        this.#callers.delete(ticket);
        if (error) {
          const isTheirs = error.code === "database" && cause;
          if (isTheirs) noteFacts(cause.error, error);
          caller?.reject(isTheirs ? cause.error : new AgentKeyError(error.code, error.message, error));
        } else {
          // Callers may change what they get: each has its own.
          caller?.resolve((i === 0 ? result : clone(result)) as never);
        }
      }
    }
    return true;
  }

  /** A timer for statements that take long, and for the calls' time limit. It keeps the process alive only while a call waits. */
  #watch(): void {
    if (this.#deadline) this.#deadline.ref();
    else this.#watchIn(Math.min(this.#timeoutMs, SLOW_MS));
  }

  #watchIn(ms: number): void {
    clearTimer(this.#deadline);
    this.#watchesAt = now() + ms;
    this.#deadline = setTimer(this.#expire, ms);
  }

  readonly #expire = (): void => {
    this.#deadline = undefined;
    this.#engine.expire();
    // Statements without callers, as of touches, have no limit of the engine's.
    const overdue = now() - 2 * this.#timeoutMs;
    for (const [statement, since] of this.#underWay) {
      if (since > overdue || statement.unlimited) continue;
      this.#underWay.delete(statement);
      this.#engine.giveUp(statement.id);
    }
    if (this.#callers.size > 0 || this.#underWay.size > 0 || this.#closed) {
      const next = this.#engine.nextDeadline() ?? this.#timeoutMs;
      this.#watchIn(Math.max(next, 1));
    }
    this.#pump();
  };

  #awaitRetry(): void {
    const delay = this.#engine.nextRetry();
    if (delay === null) return;
    const at = now() + delay;
    if (this.#retry && this.#retryAt <= at) return;
    clearTimer(this.#retry);
    this.#retryAt = at;
    this.#retry = setTimer(() => {
      this.#retry = undefined;
      this.#pump();
    }, delay);
    if (this.#callers.size === 0 && !this.#closed) this.#retry.unref();
  }

  #end(resolve: () => void): void {
    clearTimer(this.#deadline);
    clearTimer(this.#retry);
    resolve();
  }
}

/** The text column of each row; `undefined` if this is no answer of a Postgres. */
function rowsOf(result: unknown): string[] | undefined {
  const rows = (result as { rows?: unknown } | null | undefined)?.rows;
  if (!Array.isArray(rows)) return undefined;
  const texts = new Array<string>(rows.length);
  for (let i = 0; i < rows.length; i++) {
    const text: unknown = rows[i]?.agentkey;
    if (typeof text !== "string") return undefined;
    texts[i] = text;
  }
  return texts;
}

function clone(result: unknown): unknown {
  if (typeof result !== "object" || result === null) return result;
  const copy: Record<string, unknown> = { ...result };
  for (const name in copy) {
    const member = copy[name];
    if (Array.isArray(member)) copy[name] = [...member];
    else if (typeof member === "object" && member !== null) copy[name] = clone(member);
  }
  return copy;
}

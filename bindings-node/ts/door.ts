import type { IncomingMessage, ServerResponse } from "node:http";
import {
  type Exchange,
  type Guard,
  type NativeNext,
  type NativeResponse,
  presentedKey as readKey,
  unexpected,
} from "../native/native.js";
import { AgentKey, admitted, carry, report } from "./agentkey.js";
import { AgentKeyError, type ErrorCode, fromNative } from "./errors.js";
import type { RequestEnd, Reservation, ValidateResult } from "./types.js";
import { logFault } from "./faults.js";

// What the middlewares and the routes share. They carry between the server, the client and the core, which decides.

/** What doors need of a client. A test's double may have fewer methods. */
export type Client = Pick<
  AgentKey<any>,
  | "validate"
  | "validateBySubject"
  | "create"
  | "ensureSubject"
  | "revoke"
  | "reserve"
  | "reserveBySubject"
  | "settle"
  | "release"
  | "trackUsage"
  | "trackUsageBySubject"
  | "hasScope"
>;

const METHODS: (keyof Client)[] = [
  "validate",
  "validateBySubject",
  "create",
  "ensureSubject",
  "revoke",
  "reserve",
  "reserveBySubject",
  "settle",
  "release",
  "trackUsage",
  "trackUsageBySubject",
  "hasScope",
];

/** Whether calls may take the short way. A double, and a client with a method that was replaced, is called by its methods. */
export function isOwn(ak: unknown): ak is AgentKey<any> {
  return ak instanceof AgentKey && METHODS.every((name) => ak[name] === AgentKey.prototype[name]);
}

/** What became of a call: what a double's method answered, or why it failed. */
export interface Called {
  method?: string;
  result?: unknown;
  error?: unknown;
}

/** Makes the call that an exchange asks for. The exchange goes on with its answer. */
export async function makeCall(ak: Partial<Client>, exchange: Exchange, scope?: string): Promise<Called> {
  try {
    if (isOwn(ak)) {
      await ak[carry](exchange);
      return {};
    }
    const { method, args } = JSON.parse(exchange.call()!) as { method: keyof Client; args: unknown[] };
    const result: unknown = await (ak[method] as (...args: unknown[]) => unknown)(...args);
    // A client with a rule of its own is asked, as in the original.
    if (scope !== undefined && ak.hasScope && isGrant(method, result)) exchange.scopeSaid(Boolean(ak.hasScope(result, scope)));
    exchange.told(JSON.stringify(result ?? null));
    return { method, result };
  } catch (error) {
    // The core knows already, unless the call was refused before it was sent.
    if (exchange.next().kind === "call") reportFailure(exchange, error);
    return { error };
  }
}

function isGrant(method: string, result: unknown): result is ValidateResult {
  return (method === "validate" || method === "validateBySubject") && (result as ValidateResult | undefined)?.valid === true;
}

/** Errors of the original have no code. Their message is the contract. */
const MESSAGES: [begin: string, code: ErrorCode][] = [
  ["Invalid scopes: ", "invalid_scopes"],
  ["Invalid budget period: ", "invalid_budget_period"],
  ["Invalid duration: ", "invalid_duration"],
];

/** Tells an exchange that its call failed. What is no error of ours, or of the original's, is a fault on this side. */
function reportFailure(exchange: Exchange, error: unknown): void {
  const message = messageOf(error);
  const code = error instanceof AgentKeyError ? error.code : MESSAGES.find(([begin]) => message.startsWith(begin))?.[1];
  exchange.failed(code, message);
}

export function messageOf(error: unknown): string {
  return String((error as { message?: unknown } | null | undefined)?.message ?? error);
}

type Req = IncomingMessage & { agentKey?: ValidateResult; agentKeyReservation?: Reservation; route?: unknown };

/** What a door asks of its application. */
export interface Asks<R extends Req, S extends ServerResponse> {
  /** The scope that a caller must have. */
  scope?: string | undefined;
  /** What a request may cost at most. */
  estimate?: (req: R) => unknown;
  /** What it did cost. */
  price?: (req: R, res: S, end: RequestEnd) => unknown;
  /** Whose token it is, to Clerk. */
  verify?: (token: string, req: R, exchange: Exchange) => Promise<unknown>;
  /** Makes the row of a subject. */
  provision?: (subject: string, req: R) => Promise<unknown>;
}

/**
 * Lets a request pass, or answers it. Never rejects: what the application's own functions throw goes to the server's
 * error handler.
 */
export async function admit<R extends Req, S extends ServerResponse>(
  ak: Partial<Client>,
  guard: Guard,
  asks: Asks<R, S>,
  req: R,
  res: S,
  next: (error?: unknown) => void,
): Promise<void> {
  try {
    const { headers } = req;
    const exchange = guard.begin(headers.authorization, headerOf(req, guard.apiKeyHeader), !isOwn(ak));
    if (await decide(ak, exchange, asks, req, res)) next();
  } catch (error) {
    if (error instanceof ApplicationError) return next(error.cause);
    send(res, unexpected(), error);
  }
}

/** The header in which a key may be. One that was sent twice is no key. */
export function headerOf(req: IncomingMessage, name: string | null | undefined): string | undefined {
  const value = name ? req.headers[name] : undefined;
  return typeof value === "string" ? value : undefined;
}

/**
 * The raw key that a request presents as the middlewares read it, for calls that charge it: `Bearer`, in any case, or the
 * header `apiKeyHeader`. `undefined` where there is none.
 *
 * ```
 * await ak.trackUsage(presentedKey(req)!, { costCents: 3 });
 * ```
 */
export function presentedKey(req: IncomingMessage, apiKeyHeader?: string): string | undefined {
  return readKey(req.headers.authorization, headerOf(req, apiKeyHeader?.toLowerCase())) ?? undefined;
}

/** What the application's own function threw. */
class ApplicationError extends Error {}

async function decide<R extends Req, S extends ServerResponse>(
  ak: Partial<Client>,
  exchange: Exchange,
  asks: Asks<R, S>,
  req: R,
  res: S,
): Promise<boolean> {
  let cause: unknown;
  const told = new Map<string, unknown>();
  for (;;) {
    const step = exchange.next();
    switch (step.kind) {
      case "verify":
        cause = await asks.verify!(step.token!, req, exchange);
        break;
      case "provision":
        cause = await provision(exchange, () => asks.provision!(step.token!, req));
        break;
      case "estimate":
        exchange.estimated(amountJson(await ask(() => asks.estimate!(req))));
        break;
      case "call": {
        const { method, result, error } = await makeCall(ak, exchange, asks.scope);
        if (method !== undefined) told.set(method, result);
        cause = error;
        break;
      }
      case "respond":
        send(res, step.response!, cause);
        return false;
      case "pass":
        return pass(ak, exchange, asks, step, told, req, res);
      default:
        throw new Error(`${step.kind} before the handler`);
    }
  }
}

async function ask(question: () => unknown): Promise<unknown> {
  try {
    return await question();
  } catch (error) {
    throw new ApplicationError("the application's function failed", { cause: error });
  }
}

async function provision(exchange: Exchange, make: () => Promise<unknown>): Promise<unknown> {
  try {
    await make();
    exchange.told("null");
    return undefined;
  } catch (error) {
    reportFailure(exchange, error);
    return error;
  }
}

function pass<R extends Req, S extends ServerResponse>(
  ak: Partial<Client>,
  exchange: Exchange,
  asks: Asks<R, S>,
  step: NativeNext,
  told: Map<string, unknown>,
  req: R,
  res: S,
): boolean {
  // A double's results reach the handler as they are.
  const validated = told.get("validate") ?? told.get("validateBySubject");
  req.agentKey = (validated ?? JSON.parse(step.grant!)) as ValidateResult;
  if (step.reservation !== undefined) {
    const held = told.get("reserve") ?? told.get("reserveBySubject") ?? JSON.parse(step.reservation);
    req.agentKeyReservation = held as Reservation;
  }
  let isRecorded = () => {};
  let isWatched = false;
  const wasClosed = res.closed === true;
  const end = () => {
    const status = res.headersSent ? res.statusCode : undefined;
    const completed = res.writableFinished;
    exchange.ended({ began: !wasClosed, routed: req.route !== undefined, status, completed });
    record(ak, exchange, () => asks.price!(req, res, { status, completed, grant: req.agentKey! }))
      .catch((error: unknown) => tellFault(ak, "what a request cost is not recorded", error))
      .finally(isRecorded);
  };
  const watch = () => {
    if (isWatched) return;
    isWatched = true;
    if (ak instanceof AgentKey) ak[admitted](new Promise((resolve) => (isRecorded = resolve)));
    if (wasClosed) end();
    // A response is closed once, however it ends.
    else res.once("close", end);
  };
  if (asks.estimate !== undefined || asks.price !== undefined) watch();
  // Nobody waits for the handler any more.
  if (wasClosed) return false;
  if (validated === undefined) {
    const charge = (amount: unknown) => {
      if (res.closed) throw new TypeError("charge: the request has ended");
      try {
        exchange.charge(amountJson(amount));
      } catch (error) {
        throw fromNative(error);
      }
      watch();
    };
    // Not a member of the result: it is neither told nor compared.
    Object.defineProperty(req.agentKey, "charge", { value: charge });
  }
  setHeaders(res, step.headers ?? []);
  return true;
}

/** After the response: what fails here is for the log, because nobody waits for it. */
async function record(ak: Partial<Client>, exchange: Exchange, price: () => unknown): Promise<void> {
  let cause: unknown;
  for (;;) {
    const step = exchange.next();
    switch (step.kind) {
      case "price":
        try {
          exchange.priced(amountJson(await price()));
        } catch (error) {
          cause = error;
          exchange.priceFailed(messageOf(error));
        }
        break;
      case "call": {
        const { error } = await makeCall(ak, exchange);
        cause = error ?? cause;
        break;
      }
      default:
        if (step.message !== undefined) tellFault(ak, step.message, cause);
        return;
    }
  }
}

/** An amount as JSON for the core, which reads it. What JSON has no number for stays visible. */
function amountJson(amount: unknown): string | undefined {
  if (typeof amount === "bigint" || (typeof amount === "number" && !Number.isFinite(amount))) {
    return JSON.stringify(String(amount));
  }
  return JSON.stringify(amount);
}

function setHeaders(res: ServerResponse, headers: [string, string][]): void {
  for (const [name, value] of headers) res.setHeader?.(name, value);
}

/** Sends a response of the core's; `cause` is for the log alone. */
export function send(res: ServerResponse, response: NativeResponse, cause?: unknown): void {
  if (response.fault !== undefined) logFault(response.fault, cause);
  if (res.headersSent) return;
  if (typeof res.end === "function" && typeof res.setHeader === "function") {
    res.statusCode = response.status;
    setHeaders(res, response.headers);
    res.end(response.body);
    return;
  }
  // A test's double of Express's response.
  const double = res as unknown as { status(code: number): { json(body: unknown): void } };
  double.status(response.status).json(JSON.parse(response.body));
}

/** Of a fault that nobody waits for the application may want to hear. */
function tellFault(ak: Partial<Client>, fault: string, cause: unknown): void {
  logFault(fault, cause);
  if (ak instanceof AgentKey) ak[report](fault, cause);
}

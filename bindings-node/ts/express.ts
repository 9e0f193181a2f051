import type { Request, RequestHandler, Response, Router } from "express";
import { type Exchange, Guard, type NativeVisit, Routes, unexpected } from "../native/native.js";
import { TOO_LARGE, bodyOf } from "./body.js";
import { type Client, admit, headerOf, isOwn, makeCall, send } from "./door.js";
import { fromNative } from "./errors.js";
import { scopeList } from "./input.js";
import { flag, type Names, onlyKnown, optionalCount, optionalText, wrong } from "./options.js";
import type { Amount, RequestEnd, Reservation, ValidateResult } from "./types.js";

declare global {
  namespace Express {
    interface Request {
      /** The caller's key, behind `agentKeyMiddleware`. */
      agentKey?: ValidateResult;
      /** What is held for this request, behind `agentKeyMiddleware` with `reserveCents`. */
      agentKeyReservation?: Reservation;
    }
  }
}

/** What a middleware that reserves or records needs of a client. */
export type Reserver = Pick<Client, "reserve" | "settle" | "release" | "trackUsage">;

/** Holds an amount before the handler runs, and records what was spent when its response has ended. */
export interface ReservingOptions {
  /** What a request may cost, in cents: held before the handler runs. A request that does not fit gets a 429. */
  reserveCents?: Amount | ((req: Request) => Amount | Promise<Amount>);
  /**
   * What it did cost, asked when the response has ended: finished, failed, or left by its client. Exact to a millionth of
   * a cent. Where it says nothing, a response below 400 cost `reserveCents`, and an error cost nothing. Without
   * `reserveCents` nothing is held, and the cost is recorded whatever the budget.
   */
  cost?: (req: Request, res: Response, end: RequestEnd) => Amount | undefined | void | Promise<Amount | undefined | void>;
  /** How long an amount is held at most. Default `10m`; a stream that takes longer extends `req.agentKeyReservation`. */
  reserveTtl?: string;
  /**
   * What an amount is worth that nobody settles in time, for the process was killed: `release` (default) gives it back,
   * `settle` records it as spent.
   */
  ifExpired?: "release" | "settle";
  /** Whether an error costs `reserveCents` where `cost` says nothing. Default false. */
  billErrors?: boolean;
}

/** Options of `agentKeyMiddleware`. */
export interface MiddlewareOptions extends ReservingOptions {
  /** Only keys that may do this pass. */
  scope?: string;
  /** Puts `RateLimit` and `RateLimit-Policy` headers for the budget on the responses of those who pass. */
  budgetHeaders?: boolean;
  /** What a request without budget is answered. Default 429, which the clients of model vendors repeat by themselves. */
  exceededStatus?: 402 | 429;
  /**
   * A header that may hold the key, such as `x-api-key`. It counts where `Authorization` has no bearer token. Default
   * none.
   */
  apiKeyHeader?: string;
}

/** Options of `createAgentKeyRoutes`. */
export interface RouteOptions {
  /**
   * Whether `POST /signup` is there: anybody gets a key. Default true, as in the original, with a warning where
   * `signupBudget` is missing, for such keys have no limit. `true` says that this is meant.
   */
  signup?: boolean;
  /** The scopes that a signup may ask for, and gets if it asks for none. Default none at all. */
  signupScopes?: readonly string[] | null;
  /** Whether a signup must name an email address. Default true. */
  requireEmailForSignup?: boolean;
  /**
   * How often one client address (`req.ip`) may sign up: so many an hour, or in a window. All processes
   * count together in the database; each for itself until the table is migrated, and behind a double of the client.
   */
  signupRateLimit?: number | { max: number; windowMs: number } | null;
  /** Whose keys signups are: each its own account, with the address as the user, or (as in the original) the address. */
  signupAccount?: "generated" | "email";
  /** The longest that a signup's key may live. Default `365d`. */
  signupMaxExpiresIn?: string;
  /** What a signup may spend, and does if it names no budget. Default what it asks for. */
  signupBudget?: { maxCents: number; period?: string | null };
  /** Which keys a caller may revoke: all of its account, or only itself and its descendants. Default `account`. */
  revokePolicy?: "account" | "descendants";
  /**
   * Whether a caller may manage the keys below its own: `GET /sdk-keys`, `PATCH /sdk-keys/:id`, and
   * `POST /sdk-keys/:id/rotate`, `/disable` and `/enable`. Default false, as the original has no such routes.
   */
  manage?: boolean;
  /** A header that may hold the key, as of `agentKeyMiddleware`. */
  apiKeyHeader?: string;
}

const MIDDLEWARE_OPTIONS: Names<MiddlewareOptions> = {
  scope: true,
  budgetHeaders: true,
  exceededStatus: true,
  apiKeyHeader: true,
  reserveCents: true,
  cost: true,
  reserveTtl: true,
  ifExpired: true,
  billErrors: true,
};

/** Lets requests with a live key pass that has budget left and may do `scope`; sets `req.agentKey`. */
export function agentKeyMiddleware(
  ak: Pick<Client, "validate"> & Partial<Reserver> & Partial<Pick<Client, "hasScope">>,
  options: MiddlewareOptions = {},
): RequestHandler {
  onlyKnown("agentKeyMiddleware", options, MIDDLEWARE_OPTIONS);
  const { reserveCents, cost } = options;
  const scope = options.scope ?? undefined;
  const guard = makeGuard({
    scope,
    holds: reserveCents !== undefined,
    prices: cost !== undefined,
    ttl: options.reserveTtl,
    ifExpired: optionalText("ifExpired", options.ifExpired),
    billErrors: flag("billErrors", options.billErrors),
    budgetHeaders: flag("budgetHeaders", options.budgetHeaders),
    exceededStatus: optionalCount("exceededStatus", options.exceededStatus, 0),
    apiKeyHeader: optionalText("apiKeyHeader", options.apiKeyHeader),
  });
  const estimate =
    reserveCents === undefined ? undefined : (req: Request) => (typeof reserveCents === "function" ? reserveCents(req) : reserveCents);
  return (req, res, next) => void admit(ak, guard, { scope, estimate, price: cost }, req, res, next);
}

export function makeGuard(options: ConstructorParameters<typeof Guard>[0]): Guard {
  try {
    return new Guard(options);
  } catch (error) {
    throw fromNative(error);
  }
}

/**
 * The self-serve routes: `POST /signup`, `GET /sdk-keys/me`, `POST /sdk-keys`, `DELETE /sdk-keys/:id`, `POST` and
 * `GET /sdk-keys/increases`, `POST /sdk-keys/increases/:id`, and with `manage` those for the keys below the caller's.
 */
export function createAgentKeyRoutes(
  ak: Pick<Client, "validate" | "create" | "revoke">,
  options: RouteOptions = {},
): Router {
  const manage = flag("manage", options.manage);
  const routes = makeRoutes(options);
  const serve = (route: NativeVisit["route"]) => async (req: Request, res: Response) => {
    try {
      const read = WITH_BODY.includes(route) ? await bodyOf(req) : undefined;
      const isTooLarge = read === TOO_LARGE;
      const body = isTooLarge ? undefined : read;
      const { authorization } = req.headers;
      const apiKey = headerOf(req, routes.apiKeyHeader);
      const visit = { route, id: idOf(req), query: queryOf(req), authorization, apiKey, body, isTooLarge, address: req.ip, isDouble: !isOwn(ak) };
      await finish(ak, routes.visit(visit), res);
    } catch (error) {
      // Express 4 forwards no rejected promise.
      send(res, unexpected(), error);
    }
  };
  const { Router } = require("express") as typeof import("express");
  const router = Router();
  if (options.signup !== false) router.post("/signup", serve("signup"));
  router.get("/sdk-keys/me", serve("me"));
  router.post("/sdk-keys", serve("create"));
  router.post("/sdk-keys/increases", serve("requestIncrease"));
  router.get("/sdk-keys/increases", serve("listIncreases"));
  router.post("/sdk-keys/increases/:id", serve("decideIncrease"));
  router.delete("/sdk-keys/:id", serve("delete"));
  if (manage) {
    router.get("/sdk-keys", serve("list"));
    router.patch("/sdk-keys/:id", serve("update"));
    router.post("/sdk-keys/:id/rotate", serve("rotate"));
    router.post("/sdk-keys/:id/disable", serve("disable"));
    router.post("/sdk-keys/:id/enable", serve("enable"));
  }
  return router;
}

const WITH_BODY: NativeVisit["route"][] = ["signup", "create", "update", "rotate", "requestIncrease", "decideIncrease"];

function queryOf({ url }: Request): string {
  const at = url.indexOf("?");
  return at < 0 ? "" : url.slice(at + 1);
}

function idOf(req: Request): string | undefined {
  const { id } = req.params;
  return typeof id === "string" ? id : undefined;
}

/** Makes the calls that the core asks for until it has a response. */
async function finish(ak: Partial<Client>, exchange: Exchange, res: Response): Promise<void> {
  let cause: unknown;
  for (;;) {
    const { kind, response } = exchange.next();
    if (response) return send(res, response, cause);
    if (kind !== "call") throw new Error(`${kind} in a route`);
    ({ error: cause } = await makeCall(ak, exchange));
  }
}

const HOUR_MS = 3_600_000;

const ROUTE_OPTIONS: Names<RouteOptions> = {
  signup: true,
  signupScopes: true,
  requireEmailForSignup: true,
  signupRateLimit: true,
  signupAccount: true,
  signupMaxExpiresIn: true,
  signupBudget: true,
  revokePolicy: true,
  manage: true,
  apiKeyHeader: true,
};

function makeRoutes(options: RouteOptions): Routes {
  onlyKnown("createAgentKeyRoutes", options, ROUTE_OPTIONS);
  const { signupBudget, signupRateLimit, signupAccount = "generated", revokePolicy = "account" } = options;
  const rate = typeof signupRateLimit === "number" ? { max: signupRateLimit, windowMs: HOUR_MS } : signupRateLimit;
  if (rate) onlyKnown("signupRateLimit", rate, { max: true, windowMs: true });
  if (rate && !(isCount(rate.max) && isCount(rate.windowMs) && rate.windowMs > 0)) throw wrong("signupRateLimit", rate);
  if (!["generated", "email"].includes(signupAccount)) throw wrong("signupAccount", signupAccount);
  if (!["account", "descendants"].includes(revokePolicy)) throw wrong("revokePolicy", revokePolicy);
  if (signupBudget) onlyKnown("signupBudget", signupBudget, { maxCents: true, period: true });
  if (signupBudget && !isCount(signupBudget.maxCents)) throw wrong("signupBudget.maxCents", signupBudget.maxCents);
  try {
    const routes = new Routes({
      signup: options.signup === undefined || options.signup === null ? undefined : flag("signup", options.signup),
      signupScopes: options.signupScopes ? scopeList("Invalid signupScopes", options.signupScopes) : undefined,
      requireEmailForSignup: flag("requireEmailForSignup", options.requireEmailForSignup, true),
      signupRateMax: rate?.max,
      signupRateSeconds: rate ? Math.ceil(rate.windowMs / 1000) : undefined,
      emailIsAccount: signupAccount === "email",
      signupMaxExpiresIn: options.signupMaxExpiresIn,
      signupMaxCents: signupBudget?.maxCents,
      signupPeriod: signupBudget?.period ?? undefined,
      onlyDescendants: revokePolicy === "descendants",
      manage: flag("manage", options.manage),
      apiKeyHeader: optionalText("apiKeyHeader", options.apiKeyHeader),
    });
    if (routes.opensSignupUnasked) warnOfSignup();
    return routes;
  } catch (error) {
    throw fromNative(error);
  }
}

let hasWarned = false;

function warnOfSignup(): void {
  if (hasWarned) return;
  hasWarned = true;
  process.emitWarning(
    "POST /signup gives anybody a key without a limit: give createAgentKeyRoutes a signupBudget, or signup: false, or signup: true",
    { code: "AGENTKEY_OPEN_SIGNUP" },
  );
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value < 2 ** 42;
}

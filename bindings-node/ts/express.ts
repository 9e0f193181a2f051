import type { Request, RequestHandler, Response, Router } from "express";
import { type Exchange, Guard, type NativeCall, Routes } from "../native/native.js";
import { TOO_LARGE, bodyOf } from "./body.js";
import { revokeWithin } from "./agentkey.js";
import { fromNative } from "./errors.js";
import { type Client, guarded, outcomeOf, send, setHeaders, verdictJson } from "./http.js";
import { scopeList, shown } from "./input.js";
import { type Reserver, type ReservingOptions, reserving } from "./reserving.js";
import type { CreateKeyOptions, Reservation, ValidateResult } from "./types.js";

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

/** Options of `agentKeyMiddleware`. */
export interface MiddlewareOptions extends ReservingOptions {
  /** Only keys that may do this pass. */
  scope?: string;
  /** Puts `RateLimit` and `RateLimit-Policy` headers for the budget on the responses of those who pass. */
  budgetHeaders?: boolean;
}

/** Options of `createAgentKeyRoutes`. */
export interface RouteOptions {
  /** The scopes that a signup may ask for, and gets if it asks for none. Default none at all. */
  signupScopes?: readonly string[] | null;
  /** Whether a signup must name an email address. Default true. */
  requireEmailForSignup?: boolean;
  /** How often one client address (`req.ip`) may sign up: so many an hour, or in a window. Counted by each process. */
  signupRateLimit?: number | { max: number; windowMs: number } | null;
  /** Whose keys signups are: each its own account, with the address as the user, or (as in the original) the address. */
  signupAccount?: "generated" | "email";
  /** The longest that a signup's key may live. Default `365d`. */
  signupMaxExpiresIn?: string;
  /** What a signup may spend, and does if it names no budget. Default what it asks for. */
  signupBudget?: { maxCents: number; period?: string | null };
  /** Which keys a caller may revoke: all of its account, or only itself and its descendants. Default `account`. */
  revokePolicy?: "account" | "descendants";
}

/** Lets requests with a live key pass that has budget left and may do `scope`; sets `req.agentKey`. */
export function agentKeyMiddleware(ak: Pick<Client, "validate"> & Partial<Reserver>, options: MiddlewareOptions = {}): RequestHandler {
  const reserve = reserving(ak, options);
  const guard = new Guard(options.scope ?? undefined, options.budgetHeaders === true);
  return guarded(async (req, res) => {
    const { token, response } = guard.begin(req.headers.authorization);
    if (token === undefined) return refuse(res, response);
    const { said, result, error } = await outcomeOf(() => ak.validate(token), verdictJson);
    const decision = guard.decide(said);
    if (decision.response || !result?.valid) return refuse(res, decision.response, error);
    setHeaders(res, decision.headers);
    req.agentKey = result;
    return reserve === undefined || reserve(token, req, res);
  });
}

/** Sends the response of a request that does not pass. */
export function refuse(res: Response, response: Parameters<typeof send>[1] | undefined, cause?: unknown): false {
  if (!response) throw new Error("neither a pass nor a response");
  send(res, response, cause);
  return false;
}

/** The self-serve routes: `POST /signup`, `GET /sdk-keys/me`, `POST /sdk-keys`, `DELETE /sdk-keys/:id`. */
export function createAgentKeyRoutes(
  ak: Pick<Client, "validate" | "create" | "revoke">,
  options: RouteOptions = {},
): Router {
  const routes = makeRoutes(options);
  const serve = (route: NativeCall["route"]) =>
    guarded(async (req, res) => {
      const hasBody = route === "signup" || route === "create";
      const body = hasBody ? await bodyOf(req) : undefined;
      if (body === TOO_LARGE) {
        res.status(413).json({ error: "The body is too large" });
        return false;
      }
      const { authorization } = req.headers;
      const exchange = routes.handle({ route, id: idOf(req), authorization, body, address: req.ip });
      await finish(ak, exchange, res);
      return false;
    });
  const { Router } = require("express") as typeof import("express");
  const router = Router();
  router.post("/signup", serve("signup"));
  router.get("/sdk-keys/me", serve("me"));
  router.post("/sdk-keys", serve("create"));
  router.delete("/sdk-keys/:id", serve("delete"));
  return router;
}

function idOf(req: Request): string | undefined {
  const { id } = req.params;
  return typeof id === "string" ? id : undefined;
}

/** Does what the core asks for until it has a response. */
async function finish(ak: Pick<Client, "validate" | "create" | "revoke">, exchange: Exchange, res: Response): Promise<void> {
  let cause: unknown;
  for (;;) {
    const { response, token, create, revoke } = exchange.step();
    if (response) return send(res, response, cause);
    if (token !== undefined) {
      const { said, error } = await outcomeOf(() => ak.validate(token), verdictJson);
      exchange.verdict(said);
      cause = error;
    } else if (create !== undefined) {
      const { said, error } = await outcomeOf(() => ak.create(JSON.parse(create) as CreateKeyOptions), JSON.stringify);
      exchange.created(said);
      cause = error;
    } else if (revoke) {
      const call = () => revokeWithin(ak, revoke.id, revoke.account ?? null, revoke.within);
      const { said, error } = await outcomeOf(call, JSON.stringify);
      exchange.revoked(said);
      cause = error;
    } else {
      throw new Error("no next step");
    }
  }
}

const HOUR_MS = 3_600_000;

function makeRoutes(options: RouteOptions): Routes {
  const { signupBudget, signupRateLimit, signupAccount = "generated", revokePolicy = "account" } = options;
  const rate = typeof signupRateLimit === "number" ? { max: signupRateLimit, windowMs: HOUR_MS } : signupRateLimit;
  if (rate && !(isCount(rate.max) && isCount(rate.windowMs) && rate.windowMs > 0)) throw wrong("signupRateLimit", rate);
  if (!["generated", "email"].includes(signupAccount)) throw wrong("signupAccount", signupAccount);
  if (!["account", "descendants"].includes(revokePolicy)) throw wrong("revokePolicy", revokePolicy);
  if (signupBudget && !isCount(signupBudget.maxCents)) throw wrong("signupBudget.maxCents", signupBudget.maxCents);
  try {
    return new Routes({
      signupScopes: options.signupScopes ? scopeList("Invalid signupScopes", options.signupScopes) : undefined,
      requireEmailForSignup: options.requireEmailForSignup ?? true,
      signupRateMax: rate?.max,
      signupRateSeconds: rate ? Math.ceil(rate.windowMs / 1000) : undefined,
      emailIsAccount: signupAccount === "email",
      signupMaxExpiresIn: options.signupMaxExpiresIn,
      signupMaxCents: signupBudget?.maxCents,
      signupPeriod: signupBudget?.period ?? undefined,
      onlyDescendants: revokePolicy === "descendants",
    });
  } catch (error) {
    throw fromNative(error);
  }
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value < 2 ** 42;
}

function wrong(name: string, value: unknown): TypeError {
  return new TypeError(`invalid option ${name}: ${shown(value)}`);
}

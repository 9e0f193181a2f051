import type { Request, RequestHandler, Response } from "express";
import type { AgentKey } from "./agentkey.js";
import { type Asks, type Client, admit, messageOf } from "./door.js";
import { makeGuard } from "./express.js";
import { type Names, onlyKnown } from "./options.js";
import type { EnsureSubjectOptions, TrackUsageResult } from "./types.js";

/** A token or API key that Clerk verified, as far as it is looked at here. */
export interface ClerkToken {
  subject: string;
  revoked?: boolean;
  expired?: boolean;
}

declare global {
  namespace Express {
    interface Request {
      /** The verified token, behind `clerkAgentKeyMiddleware`. */
      m2m?: ClerkToken & Record<string, any>;
      /** The verified key, behind `clerkApiKeyMiddleware`. */
      clerkApiKey?: ClerkToken & Record<string, any>;
    }
  }
}

interface Options<Token> {
  ak: Pick<Client, "validateBySubject" | "ensureSubject"> & Partial<Pick<Client, "hasScope">>;
  /** What the row of a subject that is seen for the first time is made with. */
  defaults?: EnsureSubjectOptions;
  /** The same for one token; `undefined` is `defaults`. */
  onFirstSeen?(token: Token): EnsureSubjectOptions | null | undefined | Promise<EnsureSubjectOptions | null | undefined>;
  /** Only subjects that may do this pass. */
  scope?: string;
}

/** Options of `clerkAgentKeyMiddleware`. */
export interface ClerkM2MOptions<Token extends ClerkToken = any> extends Options<Token> {
  /** Of Clerk's client only this is used. */
  clerkClient: { m2m: { verify(params: { token: string }): Promise<Token> } };
}

/** Options of `clerkApiKeyMiddleware`. */
export interface ClerkApiKeyOptions<Token extends ClerkToken = any> extends Options<Token> {
  /** Of Clerk's client only this is used. */
  clerkClient: { apiKeys: { verify(secret: string): Promise<Token> } };
}

const OPTIONS: Names<ClerkM2MOptions & ClerkApiKeyOptions> = {
  ak: true,
  defaults: true,
  onFirstSeen: true,
  scope: true,
  clerkClient: true,
};

/** Lets requests with a machine-to-machine token of Clerk's pass; sets `req.m2m` and `req.agentKey`. */
export function clerkAgentKeyMiddleware<T extends ClerkToken>(options: ClerkM2MOptions<T>): RequestHandler {
  onlyKnown("clerkAgentKeyMiddleware", options, OPTIONS);
  const { clerkClient } = options;
  return door("m2m", "m2m", options, (token) => clerkClient.m2m.verify({ token }));
}

/** Lets requests with an API key of Clerk's pass; sets `req.clerkApiKey` and `req.agentKey`. */
export function clerkApiKeyMiddleware<T extends ClerkToken>(options: ClerkApiKeyOptions<T>): RequestHandler {
  onlyKnown("clerkApiKeyMiddleware", options, OPTIONS);
  const { clerkClient } = options;
  return door("apiKey", "clerkApiKey", options, (token) => clerkClient.apiKeys.verify(token));
}

/** Records what a call of a machine cost. */
export function trackByM2M(
  ak: Pick<AgentKey<any>, "trackUsageBySubject">,
  subject: string,
  costCents: number,
): Promise<TrackUsageResult> {
  return ak.trackUsageBySubject(subject, { costCents });
}

/** Records what a call with a Clerk API key cost. */
export const trackByApiKey = trackByM2M;

function door<T extends ClerkToken>(
  clerk: "m2m" | "apiKey",
  member: "m2m" | "clerkApiKey",
  { ak, defaults, onFirstSeen, scope }: Options<T>,
  verify: (token: string) => Promise<T>,
): RequestHandler {
  const required = scope ?? undefined;
  const guard = makeGuard({ scope: required, clerk, holds: false, prices: false, billErrors: false, budgetHeaders: false });
  const asks: Asks<Request, Response> = {
    scope: required,
    verify: async (token, req, exchange) => {
      try {
        const verified = (req[member] = await verify(token));
        exchange.verified(verification(verified));
        return undefined;
      } catch (error) {
        exchange.verified({ revoked: false, expired: false, failure: messageOf(error), status: statusOf(error) });
        return error;
      }
    },
    provision: async (subject, req) => ak.ensureSubject(subject, (await onFirstSeen?.(req[member] as T)) ?? defaults ?? {}),
  };
  return (req, res, next) => void admit(ak, guard, asks, req, res, next);
}

/** What Clerk said, without what only JavaScript has. */
function verification(token: ClerkToken | undefined) {
  if (typeof token?.subject !== "string" || !token.subject.isWellFormed()) return { revoked: false, expired: false };
  return { subject: token.subject, revoked: Boolean(token.revoked), expired: Boolean(token.expired) };
}

function statusOf(error: unknown): number | undefined {
  const status = (error as { status?: unknown } | null | undefined)?.status;
  return typeof status === "number" && Number.isInteger(status) && status >= 100 && status < 600 ? status : undefined;
}

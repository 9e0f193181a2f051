import type { RequestHandler } from "express";
import { ClerkDoor, Guard } from "../native/native.js";
import type { AgentKey } from "./agentkey.js";
import { refuse } from "./express.js";
import { type Client, guarded, outcomeOf, setHeaders, verdictJson } from "./http.js";
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
  ak: Pick<Client, "validateBySubject" | "ensureSubject">;
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

/** Lets requests with a machine-to-machine token of Clerk's pass; sets `req.m2m` and `req.agentKey`. */
export function clerkAgentKeyMiddleware<T extends ClerkToken>(options: ClerkM2MOptions<T>): RequestHandler {
  const { clerkClient } = options;
  return door(new ClerkDoor(false), "m2m", options, (token) => clerkClient.m2m.verify({ token }));
}

/** Lets requests with an API key of Clerk's pass; sets `req.clerkApiKey` and `req.agentKey`. */
export function clerkApiKeyMiddleware<T extends ClerkToken>(options: ClerkApiKeyOptions<T>): RequestHandler {
  const { clerkClient } = options;
  return door(new ClerkDoor(true), "clerkApiKey", options, (token) => clerkClient.apiKeys.verify(token));
}

/** Records what a call of a machine cost. */
export function trackByM2M(
  ak: Pick<AgentKey, "trackUsageBySubject">,
  subject: string,
  costCents: number,
): Promise<TrackUsageResult> {
  return ak.trackUsageBySubject(subject, { costCents });
}

/** Records what a call with a Clerk API key cost. */
export const trackByApiKey = trackByM2M;

function door<T extends ClerkToken>(
  clerk: ClerkDoor,
  member: "m2m" | "clerkApiKey",
  { ak, defaults, onFirstSeen, scope }: Options<T>,
  verify: (token: string) => Promise<T>,
): RequestHandler {
  const guard = new Guard(scope ?? undefined, false);
  return guarded(async (req, res) => {
    const begun = clerk.begin(req.headers.authorization);
    const { token } = begun;
    if (token === undefined) return refuse(res, begun.response);
    const verified = await outcomeOf(() => verify(token), () => "");
    const { subject, response } = clerk.subject(verification(verified.result, verified.error, verified.said.message));
    if (subject === undefined) return refuse(res, response, verified.error);
    const first = verified.result as T;
    let verdict = await outcomeOf(() => ak.validateBySubject(subject), verdictJson);
    if (clerk.needsRow(verdict.said)) {
      const made = await outcomeOf(
        async () => ak.ensureSubject(subject, (await onFirstSeen?.(first)) ?? defaults ?? {}),
        () => "null",
      );
      if (made.said.result === undefined) return refuse(res, clerk.rowFailed(made.said), made.error);
      verdict = await outcomeOf(() => ak.validateBySubject(subject), verdictJson);
    }
    const decision = guard.decide(verdict.said);
    if (decision.response || !verdict.result?.valid) return refuse(res, decision.response, verdict.error);
    setHeaders(res, decision.headers);
    req[member] = first;
    req.agentKey = verdict.result;
    return true;
  });
}

/** What Clerk said, without what only JavaScript has. */
function verification(token: ClerkToken | undefined, error: unknown, message?: string) {
  const failed = { revoked: false, expired: false };
  if (message !== undefined) {
    const status = (error as { status?: unknown } | null | undefined)?.status;
    const isStatus = typeof status === "number" && Number.isInteger(status) && status >= 100 && status < 600;
    return { ...failed, failure: message, status: isStatus ? status : undefined };
  }
  if (typeof token?.subject !== "string" || !token.subject.isWellFormed()) return failed;
  return { subject: token.subject, revoked: Boolean(token.revoked), expired: Boolean(token.expired) };
}

import type { Request, Response } from "express";
import type { NativeResponse, Said } from "../native/native.js";
import type { AgentKey } from "./agentkey.js";
import { refusedKeys } from "./driver.js";
import { AgentKeyError } from "./errors.js";
import type { ValidateFailure, ValidateResult } from "./types.js";

// What the middleware, the routes and the Clerk doors share: they carry between Express, the client and the core, which
// decides.

/** What the routes and middleware need of a client; a test's double may be no more than this. */
export type Client = Pick<AgentKey, "validate" | "validateBySubject" | "create" | "ensureSubject" | "revoke">;

/** What a call to the client said, as the core reads it, and the result itself. */
export interface Outcome<T> {
  said: Said;
  result?: T;
  error?: unknown;
}

export async function outcomeOf<T>(call: () => Promise<T>, json: (result: T) => string): Promise<Outcome<T>> {
  try {
    const result = await call();
    return { said: { result: json(result) }, result };
  } catch (error) {
    // What is no error of ours is the pool's: a fault on this side.
    const code = error instanceof AgentKeyError ? error.code : "database";
    return { said: { code, message: String((error as Error | undefined)?.message ?? error) }, error };
  }
}

/** A verdict as JSON, with what only the core is to see of a refused key. */
export function verdictJson(verdict: ValidateResult | ValidateFailure): string {
  const key = refusedKeys.get(verdict);
  return JSON.stringify(key === undefined ? verdict : { ...verdict, key });
}

export function setHeaders(res: Response, headers: [string, string][]): void {
  for (const [name, value] of headers) res.setHeader?.(name, value);
}

/** Sends a response of the core's; `cause` is for the log alone. */
export function send(res: Response, response: NativeResponse, cause?: unknown): void {
  if (response.fault !== undefined) logFault(response.fault, cause);
  if (res.headersSent) return;
  // `json` writes the content type itself.
  setHeaders(res, response.headers.filter(([name]) => name !== "Content-Type"));
  res.status(response.status).json(JSON.parse(response.body));
}

/** Serves a request without ever rejecting: Express 4 forwards no rejected promise. */
export function guarded(serve: (req: Request, res: Response) => Promise<boolean>) {
  return (req: Request, res: Response, next: (error?: unknown) => void): void => {
    serve(req, res).then(
      (passes) => {
        if (passes) next();
      },
      (error) => {
        logFault("unexpected", error);
        if (!res.headersSent) res.status(500).json({ error: "auth_unavailable" });
      },
    );
  };
}

export function logFault(fault: string, cause: unknown): void {
  console.error(`agentkey: ${fault}`, ...(cause === undefined ? [] : [cause]));
}

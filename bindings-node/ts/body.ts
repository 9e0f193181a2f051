import type { IncomingMessage } from "node:http";
import { MOST_BODY_BYTES } from "../native/native.js";

/** What was sent as a body and is no JSON. */
const UNREADABLE = "\0";

/** More was sent than is read. */
export const TOO_LARGE = Symbol("too large");

/** A request's body as JSON text, `undefined` if there was none. */
export async function bodyOf(req: IncomingMessage & { body?: unknown }): Promise<string | undefined | typeof TOO_LARGE> {
  const { body } = req;
  // A parser that was not meant for this body leaves none, or an empty object.
  if (body === undefined || (isEmptyObject(body) && isUnread(req))) {
    return isUnread(req) ? read(req) : jsonOf(body);
  }
  if (typeof body === "string") return body === "" ? undefined : body;
  if (Buffer.isBuffer(body)) return decode(body);
  return jsonOf(body);
}

function isEmptyObject(body: unknown): boolean {
  return typeof body === "object" && body !== null && !Buffer.isBuffer(body) && Object.keys(body).length === 0;
}

function isUnread(req: IncomingMessage): boolean {
  return typeof req.on === "function" && req.readable === true && !req.readableDidRead && !req.readableEnded;
}

function jsonOf(body: unknown): string | undefined {
  try {
    return JSON.stringify(body, (_, value) => {
      // JSON has numbers that JavaScript reads as infinite and writes as null, which would count as absent.
      if (typeof value === "number" && !Number.isFinite(value)) throw new RangeError();
      return value;
    });
  } catch {
    return UNREADABLE;
  }
}

async function read(req: IncomingMessage): Promise<string | undefined | typeof TOO_LARGE> {
  const chunks: Buffer[] = [];
  let size = 0;
  return new Promise((resolve) => {
    req.on("data", (chunk: Buffer | string) => {
      const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
      size += bytes.length;
      if (size <= MOST_BODY_BYTES) return void chunks.push(bytes);
      // What is left is thrown away, so that the client can read the answer.
      chunks.length = 0;
      resolve(TOO_LARGE);
    });
    req.on("end", () => resolve(decode(Buffer.concat(chunks))));
    req.on("error", () => resolve(UNREADABLE));
    req.on("close", () => resolve(UNREADABLE));
  });
}

function decode(bytes: Buffer): string | undefined {
  if (bytes.length === 0) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return UNREADABLE;
  }
}

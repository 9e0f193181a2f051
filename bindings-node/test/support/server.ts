// Express apps over real HTTP.
import { type IncomingHttpHeaders, type Server, request as httpRequest } from "node:http";
import type { AddressInfo } from "node:net";
import express5 from "express";
// @ts-ignore: its types are those of Express 5 here
import express4 from "express-4";

export const EXPRESS = [
  ["Express 4", express4 as unknown as typeof express5],
  ["Express 5", express5],
] as const;

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  body: any;
}

export interface Sent {
  key?: string;
  headers?: Record<string, string>;
  /** Sent as JSON; text and bytes as they are. */
  body?: unknown;
}

/** A server on a free port. */
export class App {
  private constructor(readonly server: Server) {}

  static async start(express: typeof express5, set: (app: ReturnType<typeof express5>) => void): Promise<App> {
    const app = express();
    set(app);
    const server = await new Promise<Server>((resolve) => {
      const listening: Server = app.listen(0, "127.0.0.1", () => resolve(listening));
    });
    return new App(server);
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  request(method: string, path: string, { key, headers = {}, body }: Sent = {}): Promise<Answer> {
    const raw = body === undefined || typeof body === "string" || Buffer.isBuffer(body);
    const bytes = raw ? (body as string | Buffer | undefined) : JSON.stringify(body);
    const all: Record<string, string> = { ...headers };
    if (key !== undefined) all.authorization ??= `Bearer ${key}`;
    if (bytes !== undefined) all["content-type"] ??= "application/json";
    return new Promise((resolve, reject) => {
      const request = httpRequest({ port: this.port, host: "127.0.0.1", method, path, headers: all, agent: false }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString();
          let parsed: unknown;
          try {
            parsed = JSON.parse(text);
          } catch {
            parsed = undefined;
          }
          resolve({ status: response.statusCode!, headers: response.headers, text, body: parsed });
        });
      });
      request.on("error", reject);
      request.end(bytes);
    });
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

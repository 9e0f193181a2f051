import type { Request, Response } from "express";
import { notReserved } from "../native/native.js";
import type { AgentKey } from "./agentkey.js";
import { logFault, outcomeOf, send } from "./http.js";
import type { ReserveResult } from "./types.js";

/** What a middleware that reserves needs of a client. */
export type Reserver = Pick<AgentKey, "reserve" | "settle" | "release" | "trackUsage">;

/** Holds an amount before the handler runs, and records what was spent when its response has ended. */
export interface ReservingOptions {
  /** What a request may cost, in cents: held before the handler runs. A request that does not fit gets a 429. */
  reserveCents?: number | ((req: Request) => number | Promise<number>);
  /**
   * What it did cost, in cents, asked when the response has ended: finished, failed, or left by its client. Without it
   * that is `reserveCents`. Without `reserveCents` nothing is held, and the cost is recorded whatever the budget.
   */
  cost?: (req: Request, res: Response) => number | Promise<number>;
  /** How long an amount is held at most. Default `10m`; a stream that takes longer extends `req.agentKeyReservation`. */
  reserveTtl?: string;
}

/** Whether a request may go on to its handler, once its budget is seen to; a response is sent if not. */
type Reserve = (rawKey: string, req: Request, res: Response) => Promise<boolean>;

/** `undefined` if nothing is to be reserved or recorded. */
export function reserving(client: Partial<Reserver>, options: ReservingOptions): Reserve | undefined {
  const { reserveCents, cost, reserveTtl } = options;
  if (reserveCents === undefined && cost === undefined) return undefined;
  const ak = client as Reserver;
  if (reserveCents === undefined) {
    return async (rawKey, req, res) => {
      whenClosed(res, async () => {
        const costCents = await spent(cost!, req, res, 0);
        await ak.trackUsage(rawKey, { costCents, overrun: "record" });
      });
      return true;
    };
  }
  return async (rawKey, req, res) => {
    const costCents = typeof reserveCents === "function" ? await reserveCents(req) : reserveCents;
    const { said, result, error } = await outcomeOf<ReserveResult>(() => ak.reserve(rawKey, { costCents, ttl: reserveTtl }), JSON.stringify);
    const response = notReserved(said);
    if (response || !result?.success) {
      if (!response) throw new Error("neither a reservation nor a response");
      send(res, response, error);
      return false;
    }
    const { reservationId } = result;
    // Nobody waits for the handler any more.
    if (res.closed) {
      await ak.release(reservationId);
      return false;
    }
    req.agentKeyReservation = result;
    whenClosed(res, async () => {
      const really = cost === undefined ? costCents : await spent(cost, req, res, costCents);
      const settled = await ak.settle(reservationId, { costCents: really });
      if (!settled.success) throw new Error(`a reservation was not settled: ${settled.reason}`);
    });
    return true;
  };
}

/** A response is closed once, however it ends. What then fails is for the log: nobody waits for it. */
function whenClosed(res: Response, record: () => Promise<void>): void {
  res.once("close", () => {
    record().catch((error) => logFault("what a request cost is not recorded", error));
  });
}

/** What the application says; an estimate counts where that is no amount. */
async function spent(cost: NonNullable<ReservingOptions["cost"]>, req: Request, res: Response, estimate: number): Promise<number> {
  try {
    const cents = await cost(req, res);
    if (typeof cents === "number" && Number.isFinite(cents)) return cents;
    throw new TypeError(`cost is no number: ${String(cents)}`);
  } catch (error) {
    logFault(`cost failed, ${estimate} cents count`, error);
    return estimate;
  }
}

import { AgentKeyError } from "./errors.js";
import { type Names, onlyKnown, optionalCount, wrong } from "./options.js";
import { clearTimer, setTimer } from "./outside.js";
import type { EventFilter, KeyId, LedgerEvent, WebhookOptions } from "./types.js";

/** How often new entries are looked for. */
const LOOK_MS = 1_000;
/** The core gives a delivery to others after a minute. */
const SEND_TIMEOUT_MS = 15_000;

/** What the core wants sent. */
export interface Delivery {
  eventId: number;
  attempt: number;
  headers: Record<string, string>;
  body: string;
}

/** Entries of the ledger as they come, one after the other, to one callback. */
export class Follower<Id extends KeyId> {
  readonly #over = new AbortController();

  constructor(
    read: (filter: EventFilter) => Promise<LedgerEvent<Id>[]>,
    callback: (event: LedgerEvent<Id>) => unknown,
    filter: EventFilter,
    report: (message: string, cause: unknown) => void,
  ) {
    void this.#run(read, callback, filter, report);
  }

  async #run(
    read: (filter: EventFilter) => Promise<LedgerEvent<Id>[]>,
    callback: (event: LedgerEvent<Id>) => unknown,
    filter: EventFilter,
    report: (message: string, cause: unknown) => void,
  ): Promise<void> {
    const { signal } = this.#over;
    let { after } = filter;
    while (!signal.aborted) {
      let page: LedgerEvent<Id>[] = [];
      try {
        after ??= (await read({ limit: 1 }))[0]?.id ?? 0;
        page = await read({ ...filter, after });
      } catch (error) {
        if (error instanceof AgentKeyError && error.code === "closed") return;
        report("the ledger cannot be read", error);
      }
      for (const event of page) {
        if (signal.aborted) return;
        after = event.id;
        try {
          await callback(event);
        } catch (error) {
          report(`onEvent failed on entry ${event.id}`, error);
        }
      }
      if (page.length === 0) await pause(LOOK_MS, signal);
    }
  }

  /** No call follows the one under way. */
  close(): void {
    this.#over.abort();
  }
}

/** Keeps no process alive. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      clearTimer(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimer(end, ms);
    timer.unref?.();
    signal.addEventListener("abort", end);
  });
}

const OPTIONS: Names<WebhookOptions> = { name: true, url: true, secrets: true, timeoutMs: true };

/** A webhook's address, how long a receiver may take, and what the core knows of it. */
export function webhookOf(webhook: WebhookOptions): { url: URL; timeoutMs: number; known: { name: string; secrets: readonly string[] } } {
  onlyKnown("deliver", webhook, OPTIONS);
  const { name, url: address, secrets } = webhook;
  // Neither the address nor a secret is repeated.
  if (typeof name !== "string") throw wrong("name", name);
  if (!Array.isArray(secrets) || !secrets.every((secret) => typeof secret === "string")) throw new TypeError("invalid option secrets: give an array of strings");
  const url = typeof address === "string" && URL.canParse(address) ? new URL(address) : undefined;
  if (!url || !["http:", "https:"].includes(url.protocol)) throw new TypeError("invalid option url: give an address with http or https");
  const timeoutMs = optionalCount("timeoutMs", webhook.timeoutMs, 1) ?? SEND_TIMEOUT_MS;
  if (timeoutMs > SEND_TIMEOUT_MS) throw wrong("timeoutMs", timeoutMs);
  return { url, timeoutMs, known: { name, secrets } };
}

/** Makes the POST: the status, or a word why there was none. */
export async function post(url: URL, delivery: Delivery, timeoutMs: number): Promise<{ status: number } | { error: string }> {
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const response = await fetch(url, { method: "POST", headers: delivery.headers, body: delivery.body, redirect: "manual", signal });
    await response.body?.cancel();
    return { status: response.status };
  } catch (error) {
    const { name, cause } = error as { name?: unknown; cause?: { code?: unknown } };
    // A message may have the address, which may have a secret.
    return { error: name === "TimeoutError" ? "timeout" : typeof cause?.code === "string" ? cause.code : "no answer" };
  }
}

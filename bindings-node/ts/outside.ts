import { AsyncResource } from "node:async_hooks";

// What must not depend on who calls. Taken when this module is loaded: tests that fake time do it later, and statements
// that calls share belong to no caller's context (`AsyncLocalStorage`).

export const setTimer: typeof setTimeout = globalThis.setTimeout;
export const clearTimer: typeof clearTimeout = globalThis.clearTimeout;
export const microtask: typeof queueMicrotask = globalThis.queueMicrotask;
export const nextTick: typeof process.nextTick = process.nextTick.bind(process);

/** Milliseconds since some moment. */
export const now: () => number = performance.now.bind(performance);

const root = new AsyncResource("agentkey");

/** Runs a function in the context of no caller. */
export function outside<T>(run: () => T): T {
  return root.runInAsyncScope(run);
}

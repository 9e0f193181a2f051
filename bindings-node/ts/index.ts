export { AgentKey, expiryFromDuration } from "./agentkey.js";
export { presentedKey } from "./door.js";
export { AgentKeyError, ERROR_CODES, type ErrorCode, type ErrorFacts, errorFacts } from "./errors.js";
export {
  agentKeyMiddleware,
  createAgentKeyRoutes,
  type MiddlewareOptions,
  type ReservingOptions,
  type RouteOptions,
} from "./express.js";
export { RefusedError, orThrow } from "./refused.js";
export type * from "./records.js";
export type * from "./types.js";

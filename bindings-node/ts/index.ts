export { AgentKey, expiryFromDuration } from "./agentkey.js";
export { AgentKeyError, ERROR_CODES, type ErrorCode } from "./errors.js";
export { agentKeyMiddleware, createAgentKeyRoutes, type MiddlewareOptions, type RouteOptions } from "./express.js";
export type { ReservingOptions } from "./reserving.js";
export type * from "./types.js";

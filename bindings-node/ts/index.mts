export {
  AgentKey,
  AgentKeyError,
  ERROR_CODES,
  agentKeyMiddleware,
  createAgentKeyRoutes,
  expiryFromDuration,
} from "./index.js";
export type * from "./index.js";

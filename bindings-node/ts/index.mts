export {
  AgentKey,
  AgentKeyError,
  ERROR_CODES,
  agentKeyMiddleware,
  createAgentKeyRoutes,
  errorFacts,
  expiryFromDuration,
} from "./index.js";
export type * from "./index.js";

export {
  AgentKey,
  AgentKeyError,
  ERROR_CODES,
  RefusedError,
  agentKeyMiddleware,
  createAgentKeyRoutes,
  errorFacts,
  expiryFromDuration,
  orThrow,
  presentedKey,
} from "./index.js";
export type * from "./index.js";

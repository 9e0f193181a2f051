export { clerkAgentKeyMiddleware, clerkApiKeyMiddleware, trackByApiKey, trackByM2M } from "./clerk.js";
export type * from "./clerk.js";

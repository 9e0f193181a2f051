export { instrument } from "./otel.js";
export type * from "./otel.js";

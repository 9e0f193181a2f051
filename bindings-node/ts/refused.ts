type Refusal = { success: false; reason: string } | { valid: false; reason: string };
type Refused<R> = Extract<R, { success: false } | { valid: false }>;
type Done<R> = Exclude<R, { success: false } | { valid: false }>;

/** A refusal, thrown by `orThrow`. It is no fault: the call was made, and the answer is no. */
export class RefusedError<R extends Refusal = Refusal> extends Error {
  /** Why, for programs. */
  readonly reason: R["reason"];
  /** The budget that stands in the way, where that is the reason and known. */
  readonly limit: R extends { limit?: infer L } ? L : undefined;
  /** The result that said no. */
  readonly refusal: R;

  constructor(refusal: R) {
    super(refusal.reason);
    this.name = "RefusedError";
    this.reason = refusal.reason;
    this.limit = (refusal as { limit?: unknown }).limit as this["limit"];
    this.refusal = refusal;
  }
}

/**
 * The result of a call that did what was asked. A refusal is thrown, as a `RefusedError`: a handler that forgets to look at
 * the result admits nobody.
 */
export function orThrow<R extends object>(result: R): Done<R> {
  const { success, valid } = result as { success?: unknown; valid?: unknown };
  if (success === true || valid === true) return result as Done<R>;
  if (success === false || valid === false) throw new RefusedError(result as unknown as Refused<R> & Refusal);
  throw new TypeError("orThrow takes what validate, trackUsage, reserve, settle, release or extend answer: await the call first");
}

/** To the log. */
export function logFault(fault: string, cause: unknown): void {
  console.error(`agentkey: ${fault}`, ...(cause === undefined ? [] : [cause]));
}

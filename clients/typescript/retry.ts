// Repeats what may be made twice, when it ended as UNAVAILABLE: Connect has no service config, but knows the same contract.

import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";

const ATTEMPTS = 5;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;

export const retry: Interceptor = (next) => async (request) => {
  const once = request.stream || request.method.idempotency === MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN;
  for (let attempt = 1; ; attempt++) {
    try {
      return await next(request);
    } catch (error) {
      const { code } = ConnectError.from(error);
      // A connection that breaks off is Canceled for Node, as is a call that its caller gives up.
      const lost = code === Code.Unavailable || (code === Code.Canceled && !request.signal.aborted);
      if (once || attempt === ATTEMPTS || !lost) throw error;
      await pause(attempt, FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
    }
  }
};

/** Twice as long each time, and never as long as others wait. */
export function pause(attempt: number, firstMs: number, longestMs: number): Promise<void> {
  const longest = Math.min(firstMs * 2 ** (attempt - 1), longestMs);
  return new Promise((resolve) => setTimeout(resolve, longest * (0.5 + Math.random() / 2)));
}

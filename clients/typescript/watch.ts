// Prints companies as they change, and misses none while the server or the connection is away:
// `node dist/watch.js 127.0.0.1:50051`, with the key in EVBRIDGE_KEY.

import { Code, ConnectError, createClient, type Client, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { WatchService, type CompanyChange } from "./gen/evbridge/v1/watch_pb.js";
import { pause } from "./retry.js";

const [address] = process.argv.slice(2);
const key = process.env["EVBRIDGE_KEY"];
if (!address || !key) {
  throw new Error("usage: EVBRIDGE_KEY=evb_... node dist/watch.js HOST:PORT");
}

const authorize: Interceptor = (next) => (request) => {
  request.header.set("authorization", `Bearer ${key}`);
  return next(request);
};
const client = createClient(
  WatchService,
  createGrpcTransport({ baseUrl: `http://${address}`, interceptors: [authorize] }),
);
const PASSING = new Set([Code.OutOfRange, Code.Unavailable, Code.ResourceExhausted, Code.Canceled, Code.Aborted]);

/**
 * Tells every company that there is, then every change. Throws only what does not pass by itself.
 *
 * A program that keeps the companies stores the token with them, and begins with it.
 */
async function watch(client: Client<typeof WatchService>, changed: (change: CompanyChange) => void): Promise<never> {
  let request: { snapshot: boolean } | { resumeToken: string } = { snapshot: true };
  for (let attempt = 1; ; attempt++) {
    try {
      for await (const response of client.watchCompanies(request)) {
        response.changes.forEach(changed);
        // Only now: what comes before the token was dealt with.
        if (response.resumeToken) request = { resumeToken: response.resumeToken };
        attempt = 1;
      }
    } catch (error) {
      const { code } = ConnectError.from(error);
      if (!PASSING.has(code)) throw error;
      // Too long away: what was missed is no longer kept.
      if (code === Code.OutOfRange) request = { snapshot: true };
    }
    await pause(attempt, 100, 10_000);
  }
}

await watch(client, (change) => console.log(change.id, change.company?.version ?? 0));

// Lists and gets parties, then asks for one that cannot be, and prints what came back as JSON:
// `node dist/check.js 127.0.0.1:50051`, with the key in EVBRIDGE_KEY.

import { toJson } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { PartySchema, PartyService, type Party } from "./gen/evbridge/v1/party_pb.js";
import { retry } from "./retry.js";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";

const [address] = process.argv.slice(2);
const key = process.env["EVBRIDGE_KEY"];
if (!address || !key) {
  throw new Error("usage: EVBRIDGE_KEY=evb_... node dist/check.js HOST:PORT");
}

const authorize: Interceptor = (next) => (request) => {
  request.header.set("authorization", `Bearer ${key}`);
  return next(request);
};
const parties = createClient(
  PartyService,
  createGrpcTransport({ baseUrl: `http://${address}`, interceptors: [retry, authorize], defaultTimeoutMs: 20_000 }),
);

async function listed(): Promise<Party[]> {
  const all: Party[] = [];
  let pageToken = "";
  do {
    const page = await parties.listParties({ pageSize: 2, pageToken });
    all.push(...page.parties);
    pageToken = page.nextPageToken;
  } while (pageToken);
  return all;
}

function failure(error: ConnectError) {
  const [info] = error.findDetails(ErrorInfoSchema);
  const [invalid] = error.findDetails(BadRequestSchema);
  return {
    code: Code[error.code],
    reason: info?.reason,
    domain: info?.domain,
    violations: invalid?.fieldViolations.map((violation) => violation.field) ?? [],
  };
}

const all = await listed();
const got = await Promise.all(all.map(({ countryCode, partyId }) => parties.getParty({ countryCode, partyId })));
const failed = await parties.getParty({ countryCode: "Germany", partyId: "?" }).then(
  () => null,
  (error: unknown) => failure(ConnectError.from(error)),
);
console.log(
  JSON.stringify({
    listed: all.map((party) => toJson(PartySchema, party)),
    got: got.map((party) => toJson(PartySchema, party)),
    failure: failed,
  }),
);

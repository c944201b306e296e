// Lists and gets parties, then asks for one that cannot be, and prints what came back as JSON:
// `build/check 127.0.0.1:50051`, with the key in EVBRIDGE_KEY.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include "connection.h"
#include "evbridge/v1/party.grpc.pb.h"
#include "google/rpc/code.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace v1 = evbridge::v1;
using google::protobuf::Struct;
using google::protobuf::util::JsonStringToMessage;
using google::protobuf::util::MessageToJsonString;
using v1::PartyService;

namespace {

constexpr std::chrono::seconds kDeadline(20);

void Prepare(grpc::ClientContext& context) {
  AddKey(context);
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
}

// Throws what the server said when the call failed.
void Expect(const grpc::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.error_message());
}

std::vector<v1::Party> List(PartyService::Stub& parties) {
  std::vector<v1::Party> all;
  v1::ListPartiesRequest request;
  request.set_page_size(2);
  do {
    grpc::ClientContext context;
    Prepare(context);
    v1::ListPartiesResponse page;
    Expect(parties.ListParties(&context, request, &page));
    all.insert(all.end(), page.parties().begin(), page.parties().end());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return all;
}

grpc::Status Get(PartyService::Stub& parties, const std::string& country_code, const std::string& party_id,
                 v1::Party* party) {
  grpc::ClientContext context;
  Prepare(context);
  v1::GetPartyRequest request;
  request.set_country_code(country_code);
  request.set_party_id(party_id);
  return parties.GetParty(&context, request, party);
}

Struct FailureOf(const grpc::Status& status) {
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest invalid;
  for (const auto& detail : details.details()) {
    detail.UnpackTo(&info) || detail.UnpackTo(&invalid);
  }
  Struct failure;
  auto& fields = *failure.mutable_fields();
  fields["code"].set_string_value(google::rpc::Code_Name(static_cast<google::rpc::Code>(status.error_code())));
  fields["reason"].set_string_value(info.reason());
  fields["domain"].set_string_value(info.domain());
  auto* violations = fields["violations"].mutable_list_value();
  for (const auto& violation : invalid.field_violations()) {
    violations->add_values()->set_string_value(violation.field());
  }
  return failure;
}

void Append(google::protobuf::ListValue& all, const v1::Party& party) {
  std::string text;
  if (!MessageToJsonString(party, &text).ok() || !JsonStringToMessage(text, all.add_values()).ok()) {
    throw std::runtime_error("a party is not to be written as JSON");
  }
}

Struct Report(PartyService::Stub& parties) {
  Struct report;
  auto& listed = *(*report.mutable_fields())["listed"].mutable_list_value();
  auto& got = *(*report.mutable_fields())["got"].mutable_list_value();
  for (const auto& party : List(parties)) {
    Append(listed, party);
    v1::Party again;
    Expect(Get(parties, party.country_code(), party.party_id(), &again));
    Append(got, again);
  }
  v1::Party none;
  const auto status = Get(parties, "Germany", "?", &none);
  if (status.ok()) throw std::runtime_error("a party that cannot be was found");
  *(*report.mutable_fields())["failure"].mutable_struct_value() = FailureOf(status);
  return report;
}

}  // namespace

int main(int count, char** arguments) try {
  if (count != 2 || !std::getenv("EVBRIDGE_KEY")) throw std::invalid_argument("usage: EVBRIDGE_KEY=evb_... check HOST:PORT");
  const auto parties = PartyService::NewStub(ConnectTo(arguments[1]));
  std::string text;
  if (!MessageToJsonString(Report(*parties), &text).ok()) return EXIT_FAILURE;
  std::cout << text << std::endl;
  return EXIT_SUCCESS;
} catch (const std::exception& error) {
  std::cerr << error.what() << std::endl;
  return EXIT_FAILURE;
}

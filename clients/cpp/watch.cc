// Prints companies as they change, and misses none while the server or the connection is away:
// `build/watch 127.0.0.1:50051`, with the key in EVBRIDGE_KEY.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <thread>

#include "connection.h"
#include "evbridge/v1/watch.grpc.pb.h"

namespace v1 = evbridge::v1;
using v1::WatchService;

namespace {

constexpr std::chrono::milliseconds kFirstPause(100);
constexpr std::chrono::milliseconds kLongestPause(10'000);

bool Passes(grpc::StatusCode code) {
  return code == grpc::OUT_OF_RANGE || code == grpc::UNAVAILABLE || code == grpc::RESOURCE_EXHAUSTED ||
         code == grpc::CANCELLED;
}

// Tells every company that there is, then every change. Returns only what does not pass by itself.
//
// A program that keeps the companies stores the token with them, and begins with it.
grpc::Status Watch(WatchService::Stub& watches, const std::function<void(const v1::CompanyChange&)>& changed) {
  v1::WatchCompaniesRequest snapshot;
  snapshot.set_snapshot(true);
  auto request = snapshot;
  for (auto pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    grpc::ClientContext context;
    AddKey(context);
    const auto responses = watches.WatchCompanies(&context, request);
    v1::WatchCompaniesResponse response;
    while (responses->Read(&response)) {
      for (const auto& change : response.changes()) changed(change);
      // Only now: what comes before the token was dealt with.
      if (!response.resume_token().empty()) {
        request.Clear();
        request.set_resume_token(response.resume_token());
      }
      pause = kFirstPause;
    }
    const auto status = responses->Finish();
    if (!status.ok() && !Passes(status.error_code())) return status;
    if (status.error_code() == grpc::OUT_OF_RANGE) request = snapshot;  // what was missed is no longer kept
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2 || !std::getenv("EVBRIDGE_KEY")) {
    std::cerr << "usage: EVBRIDGE_KEY=evb_... watch HOST:PORT" << std::endl;
    return EXIT_FAILURE;
  }
  const auto watches = WatchService::NewStub(ConnectTo(arguments[1]));
  const auto status = Watch(*watches, [](const v1::CompanyChange& change) {
    std::cout << change.id() << ' ' << change.company().version() << std::endl;
  });
  std::cerr << status.error_message() << std::endl;
  return EXIT_FAILURE;
}

// A channel that repeats what may be made twice, and the key that every call carries.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "evbridge/service_config.h"

inline std::shared_ptr<grpc::Channel> ConnectTo(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(evbridge::kServiceConfig);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

inline void AddKey(grpc::ClientContext& context) {
  context.AddMetadata("authorization", std::string("Bearer ") + std::getenv("EVBRIDGE_KEY"));
}

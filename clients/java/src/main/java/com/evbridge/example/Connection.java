package com.evbridge.example;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import io.grpc.CallCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.Executor;

/** A channel that repeats what may be made twice, and the key that every call carries. */
final class Connection {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private Connection() {}

  static ManagedChannel to(String address) throws IOException {
    return Grpc.newChannelBuilder(address, InsecureChannelCredentials.create())
        .defaultServiceConfig(serviceConfig())
        .build();
  }

  /** Over TLS gRPC would take these, too: over a plain connection only because we say that it may. */
  static CallCredentials key(String key) {
    var headers = new Metadata();
    headers.put(AUTHORIZATION, "Bearer " + key);
    return new CallCredentials() {
      @Override
      public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
        applier.apply(headers);
      }
    };
  }

  private static Map<String, ?> serviceConfig() throws IOException {
    try (var file = Connection.class.getResourceAsStream("/service_config.json")) {
      var json = new InputStreamReader(file, StandardCharsets.UTF_8);
      return new Gson().fromJson(json, new TypeToken<Map<String, Object>>() {}.getType());
    }
  }
}

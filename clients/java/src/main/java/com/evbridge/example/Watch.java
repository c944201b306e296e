package com.evbridge.example;

import com.evbridge.v1.CompanyChange;
import com.evbridge.v1.WatchCompaniesRequest;
import com.evbridge.v1.WatchServiceGrpc;
import com.evbridge.v1.WatchServiceGrpc.WatchServiceBlockingStub;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.EnumSet;
import java.util.Set;
import java.util.function.Consumer;

/**
 * Prints companies as they change, and misses none while the server or the connection is away. The argument is the server's
 * HOST:PORT, the key stands in EVBRIDGE_KEY.
 */
public final class Watch {
  private static final long FIRST_PAUSE_MS = 100;
  private static final long LONGEST_PAUSE_MS = 10_000;
  private static final Set<Status.Code> PASSING =
      EnumSet.of(
          Status.Code.OUT_OF_RANGE,
          Status.Code.UNAVAILABLE,
          Status.Code.RESOURCE_EXHAUSTED,
          Status.Code.CANCELLED);

  private Watch() {}

  public static void main(String[] arguments) throws Exception {
    var watches =
        WatchServiceGrpc.newBlockingStub(Connection.to(arguments[0]))
            .withCallCredentials(Connection.key(System.getenv("EVBRIDGE_KEY")));
    watch(watches, change -> System.out.println(change.getId() + " " + change.getCompany().getVersion()));
  }

  /**
   * Tells every company that there is, then every change. Throws only what does not pass by itself.
   *
   * <p>A program that keeps the companies stores the token with them, and begins with it.
   */
  private static void watch(WatchServiceBlockingStub watches, Consumer<CompanyChange> changed)
      throws InterruptedException {
    var snapshot = WatchCompaniesRequest.newBuilder().setSnapshot(true).build();
    var request = snapshot;
    for (long pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        for (var responses = watches.watchCompanies(request); responses.hasNext(); pause = FIRST_PAUSE_MS) {
          var response = responses.next();
          response.getChangesList().forEach(changed);
          // Only now: what comes before the token was dealt with.
          if (!response.getResumeToken().isEmpty()) {
            request = WatchCompaniesRequest.newBuilder().setResumeToken(response.getResumeToken()).build();
          }
        }
      } catch (StatusRuntimeException error) {
        var code = error.getStatus().getCode();
        if (!PASSING.contains(code)) {
          throw error;
        }
        if (code == Status.Code.OUT_OF_RANGE) { // too long away: what was missed is no longer kept
          request = snapshot;
        }
      }
      Thread.sleep(pause);
    }
  }
}

package com.evbridge.example;

import com.evbridge.v1.GetPartyRequest;
import com.evbridge.v1.ListPartiesRequest;
import com.evbridge.v1.Party;
import com.evbridge.v1.PartyServiceGrpc;
import com.evbridge.v1.PartyServiceGrpc.PartyServiceBlockingStub;
import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.BadRequest;
import com.google.rpc.BadRequest.FieldViolation;
import com.google.rpc.ErrorInfo;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * Lists and gets parties, then asks for one that cannot be, and prints what came back as JSON. The argument is the server's
 * HOST:PORT, the key stands in EVBRIDGE_KEY.
 */
public final class Check {
  private final PartyServiceBlockingStub parties;

  private Check(PartyServiceBlockingStub parties) {
    this.parties = parties;
  }

  record Failure(String code, String reason, String domain, List<String> violations) {}

  record Report(List<JsonElement> listed, List<JsonElement> got, Failure failure) {}

  public static void main(String[] arguments) throws Exception {
    var channel = Connection.to(arguments[0]);
    try {
      var parties =
          PartyServiceGrpc.newBlockingStub(channel)
              .withCallCredentials(Connection.key(System.getenv("EVBRIDGE_KEY")))
              .withDeadlineAfter(20, TimeUnit.SECONDS);
      System.out.println(new Gson().toJson(new Check(parties).report()));
    } finally {
      channel.shutdownNow();
    }
  }

  private Report report() throws InvalidProtocolBufferException {
    var listed = new ArrayList<JsonElement>();
    var got = new ArrayList<JsonElement>();
    for (var party : list()) {
      listed.add(json(party));
      got.add(json(get(party.getCountryCode(), party.getPartyId())));
    }
    try {
      get("Germany", "?");
    } catch (StatusRuntimeException error) {
      return new Report(listed, got, failure(error));
    }
    throw new IllegalStateException("a party that cannot be was found");
  }

  private List<Party> list() {
    var all = new ArrayList<Party>();
    var request = ListPartiesRequest.newBuilder().setPageSize(2);
    do {
      var page = parties.listParties(request.build());
      all.addAll(page.getPartiesList());
      request.setPageToken(page.getNextPageToken());
    } while (!request.getPageToken().isEmpty());
    return all;
  }

  private Party get(String countryCode, String partyId) {
    return parties.getParty(
        GetPartyRequest.newBuilder().setCountryCode(countryCode).setPartyId(partyId).build());
  }

  private static Failure failure(StatusRuntimeException error) throws InvalidProtocolBufferException {
    var info = ErrorInfo.getDefaultInstance();
    var invalid = BadRequest.getDefaultInstance();
    for (var detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        info = detail.unpack(ErrorInfo.class);
      } else if (detail.is(BadRequest.class)) {
        invalid = detail.unpack(BadRequest.class);
      }
    }
    var fields = invalid.getFieldViolationsList().stream().map(FieldViolation::getField).toList();
    return new Failure(error.getStatus().getCode().name(), info.getReason(), info.getDomain(), fields);
  }

  private static JsonElement json(Party party) throws InvalidProtocolBufferException {
    return JsonParser.parseString(JsonFormat.printer().print(party));
  }
}

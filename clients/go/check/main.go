// Check lists and gets parties, then asks for one that cannot be, and prints what came back as JSON:
// `go run ./check 127.0.0.1:50051`, with the key in EVBRIDGE_KEY.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	config "evbridge"
	evbridge "evbridge/gen/evbridge/v1"
)

type report struct {
	Listed  []json.RawMessage `json:"listed"`
	Got     []json.RawMessage `json:"got"`
	Failure *failure          `json:"failure"`
}

type failure struct {
	Code       string   `json:"code"`
	Reason     string   `json:"reason"`
	Domain     string   `json:"domain"`
	Violations []string `json:"violations"`
}

func main() {
	key := os.Getenv("EVBRIDGE_KEY")
	if len(os.Args) != 2 || key == "" {
		log.Fatal("usage: EVBRIDGE_KEY=evb_... check HOST:PORT")
	}
	connection, err := grpc.NewClient(
		os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(config.ServiceConfig),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)

	found, err := check(ctx, evbridge.NewPartyServiceClient(connection))
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}

func check(ctx context.Context, parties evbridge.PartyServiceClient) (*report, error) {
	found := &report{}
	all, err := list(ctx, parties)
	if err != nil {
		return nil, err
	}
	for _, party := range all {
		got, err := parties.GetParty(ctx, &evbridge.GetPartyRequest{CountryCode: party.CountryCode, PartyId: party.PartyId})
		if err != nil {
			return nil, err
		}
		if found.Listed, err = appendJSON(found.Listed, party); err != nil {
			return nil, err
		}
		if found.Got, err = appendJSON(found.Got, got); err != nil {
			return nil, err
		}
	}
	_, err = parties.GetParty(ctx, &evbridge.GetPartyRequest{CountryCode: "Germany", PartyId: "?"})
	if err == nil {
		return nil, errors.New("a party that cannot be was found")
	}
	found.Failure = failureOf(err)
	return found, nil
}

func list(ctx context.Context, parties evbridge.PartyServiceClient) ([]*evbridge.Party, error) {
	var all []*evbridge.Party
	request := &evbridge.ListPartiesRequest{PageSize: 2}
	for {
		page, err := parties.ListParties(ctx, request)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Parties...)
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			return all, nil
		}
	}
}

func failureOf(err error) *failure {
	failed := status.Convert(err)
	found := &failure{Code: failed.Code().String(), Violations: []string{}}
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			found.Reason, found.Domain = detail.Reason, detail.Domain
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				found.Violations = append(found.Violations, violation.Field)
			}
		}
	}
	return found
}

func appendJSON(all []json.RawMessage, party *evbridge.Party) ([]json.RawMessage, error) {
	text, err := protojson.Marshal(party)
	return append(all, text), err
}

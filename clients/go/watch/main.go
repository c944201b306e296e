// Watch prints companies as they change, and misses none while the server or the connection is away:
// `go run ./watch 127.0.0.1:50051`, with the key in EVBRIDGE_KEY.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	config "evbridge"
	evbridge "evbridge/gen/evbridge/v1"
)

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

func main() {
	key := os.Getenv("EVBRIDGE_KEY")
	if len(os.Args) != 2 || key == "" {
		log.Fatal("usage: EVBRIDGE_KEY=evb_... watch HOST:PORT")
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
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+key)
	err = watch(ctx, evbridge.NewWatchServiceClient(connection), func(change *evbridge.CompanyChange) {
		fmt.Println(change.Id, change.Company.GetVersion())
	})
	log.Fatal(err)
}

// watch tells every company that there is, then every change. It ends only with an error that does not pass by itself.
//
// A program that keeps the companies stores the token with them, and begins with it.
func watch(ctx context.Context, client evbridge.WatchServiceClient, changed func(*evbridge.CompanyChange)) error {
	request, pause := &evbridge.WatchCompaniesRequest{Snapshot: true}, firstPause
	for {
		err := follow(ctx, client, request, func(response *evbridge.WatchCompaniesResponse) {
			for _, change := range response.Changes {
				changed(change)
			}
			// Only now: what comes before the token was dealt with.
			if response.ResumeToken != "" {
				request = &evbridge.WatchCompaniesRequest{ResumeToken: response.ResumeToken}
			}
			pause = firstPause
		})
		switch status.Code(err) {
		case codes.OutOfRange: // too long away: what was missed is no longer kept
			request = &evbridge.WatchCompaniesRequest{Snapshot: true}
		case codes.Unavailable, codes.ResourceExhausted, codes.Canceled:
		default:
			return err
		}
		time.Sleep(pause)
		pause = min(2*pause, longestPause)
	}
}

func follow(
	ctx context.Context,
	client evbridge.WatchServiceClient,
	request *evbridge.WatchCompaniesRequest,
	received func(*evbridge.WatchCompaniesResponse),
) error {
	stream, err := client.WatchCompanies(ctx, request)
	for err == nil {
		var response *evbridge.WatchCompaniesResponse
		if response, err = stream.Recv(); err == nil {
			received(response)
		}
	}
	return err
}

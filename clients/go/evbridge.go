// Package evbridge holds what the generated code does not.
package evbridge

import _ "embed"

// ServiceConfig makes a client repeat what may be made twice, when it ended as UNAVAILABLE or CANCELLED:
// grpc.WithDefaultServiceConfig(evbridge.ServiceConfig).
//
//go:embed gen/service_config.json
var ServiceConfig string

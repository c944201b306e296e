"""evbridge: one typed gRPC API for everything an EV-charging company exchanges with its partners."""

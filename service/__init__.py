"""evbridge: one typed gRPC API for everything an EV-charging company exchanges with its partners."""

import os

# Read by grpc's core when it is imported: its lines on stderr are no JSON. GRPC_VERBOSITY=ERROR brings them back.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

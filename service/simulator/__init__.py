"""Partners that answer like the real ones, served from their own contracts. The demo and the tests talk to them."""

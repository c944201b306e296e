"""What people look at: a story told by rpcs, and a server filled with data. Both only call, as any client does."""

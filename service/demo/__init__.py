"""What people look at: a story told by rpcs, and a server filled with data. Both are calls of a client, nothing else."""

"""Work for a processor, in processes of its own: the loop that serves calls never waits for it."""

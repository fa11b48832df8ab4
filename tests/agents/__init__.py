"""Real agents, end to end: `make agents`."""

"""The shell around the core: the supervisor's loop, its sockets, and what it looks at for the core."""

"""What other actor systems do, run by a Python of their own that `make peers` sets up. They know nothing of us."""

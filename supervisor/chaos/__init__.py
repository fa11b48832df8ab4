"""Faults in a running house, and the ledgers that judge it. A client like any other: the house knows nothing of it."""

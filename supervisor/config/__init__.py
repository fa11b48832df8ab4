"""The configuration: what is read of it, and what is wrong with it."""

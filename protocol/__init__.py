"""The wire vocabulary, both ends' pure state machines, and the client library."""

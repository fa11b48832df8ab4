"""Fuzzing: frames that are nearly right, by the million, against everything that reads them."""

"""The core, decided in pure code."""

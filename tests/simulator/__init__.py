"""A world around the unchanged pure parts, decided by one seed: see `tests.sim`."""

"""Real processes under fire."""

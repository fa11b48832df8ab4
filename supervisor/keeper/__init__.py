"""The keeper: the small parent of every process of a house."""

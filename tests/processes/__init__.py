"""Keeper, shell, log and actors, each with real processes where it has some."""

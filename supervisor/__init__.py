"""The parent side: decides (core) and acts (keeper, shell, log, command line, edges)."""

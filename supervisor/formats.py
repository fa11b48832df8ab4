"""The formats of the log's files: the log writes and reads these, and `doctor` looks whether they are. Pure."""

SCHEMA_VERSION = 5  # Of log.sqlite: as many as there are scripts in `log/schema.py`.
JOURNAL_HEADER = b"understudy journal 1\n"

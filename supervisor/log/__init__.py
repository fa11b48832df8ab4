"""The numbered log of a house: SQLite behind a journal."""

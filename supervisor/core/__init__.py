"""Everything that decides. Pure: no clock, no file, no socket, no process."""

"""What crosses a process boundary, and both ends of it."""

"""What runs in a child: the process that owns one agent."""

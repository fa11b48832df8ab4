"""Logs that older versions wrote, and what makes one."""

"""`up`: a house in the foreground, or in the background and ready when this returns."""

import sys
from typing import Any

from understudy.protocol.stderr import write_line
from understudy.supervisor.starting import start_in_background

EXIT_MISTAKES = 2


def run(options: Any) -> int:
    """Start a house as the options say; return the exit status."""
    if options.detach:
        pid = start_in_background(options.config, options.runtime_dir, options.state_dir, options.idle_exit_s)
        print(f"the house is up (pid {pid}); try: understudy status")
        return 0
    from understudy.supervisor import keeping

    if options.check:
        mistakes, remarks, source = keeping.check(options.config, options.runtime_dir, options.state_dir)
        for mistake in mistakes:
            write_line(mistake)
        for remark in remarks:
            print(remark)
        if not mistakes:
            counted = f", {len(remarks)} of its settings in vain" if remarks else ""
            print(f"{source or 'the built-in cast'}: no mistakes{counted}")
        return EXIT_MISTAKES if mistakes else 0
    command = (sys.executable, *sys.orig_argv[1:])
    return keeping.keep(command, options.config, options.runtime_dir, options.state_dir, options.idle_exit_s)

"""Run the command line: `python -m understudy`."""

import sys

from understudy.supervisor.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

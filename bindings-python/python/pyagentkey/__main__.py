"""The command line: ``python -m pyagentkey``, and the program ``agentkey``."""

from __future__ import annotations

import signal
import sys

from ._native import command_line


def main() -> int:
    """Runs it with the process's arguments. Answers its exit code."""
    # The core waits, not Python: Ctrl-C ends the process, as that of any other program.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return command_line(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

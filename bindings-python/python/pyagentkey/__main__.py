"""The command line: ``python -m pyagentkey``, and the program ``agentkey``."""

from __future__ import annotations

import os
import signal
import sys

from ._native import command_line


def main() -> int:
    """Runs it with the process's arguments. Answers its exit code."""
    _open_standard_streams()
    # The core waits, not Python: Ctrl-C ends the process, as that of any other program.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return command_line(sys.argv[1:])


def _open_standard_streams() -> None:
    """Puts the null device where a standard stream is closed. Else a connection might get its number, and what is
    written to the stream."""
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:
            # The lowest number that is free. To read and to write, by which the core knows it.
            os.open(os.devnull, os.O_RDWR)


if __name__ == "__main__":
    sys.exit(main())

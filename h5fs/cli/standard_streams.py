"""stdin, stdout and stderr, opened where the process was started with some of them closed.

The next files that a process opens get the numbers of closed streams: a pipe, the HDF5 file. What
is printed would then be written there.
"""

from __future__ import annotations

import os
import sys


def open_missing_streams() -> bool:
    """Put /dev/null in the place of closed streams; return whether stdout was closed."""
    had_stdout = sys.stdout is not None
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _open_null(number)
    # Python sets a stream to None when it was closed at the start.
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    return not had_stdout


def _open_null(number: int) -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.set_inheritable(number, True)

"""Progress bars: on a terminal, and only there."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
from support.waiting import PATIENCE_SECONDS

WORK = """
import time
from h5fs.cli.output import progress
progress._QUIET_SECONDS = 0.2
with progress.progress_bar("reading data.h5", 100) as bar:
    for _ in range(10):
        time.sleep(0.1)
        bar.update(10)
"""


@pytest.mark.semantics("C24")
def test_a_bar_is_shown_on_a_terminal_and_nowhere_else() -> None:
    quiet = subprocess.run(
        [sys.executable, "-c", WORK], capture_output=True, timeout=240, check=True
    )
    assert (quiet.stdout, quiet.stderr) == (b"", b"")
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen([sys.executable, "-c", WORK], stderr=end) as process:
        os.close(end)
        shown = b""
        try:
            while piece := os.read(terminal, 4096):
                shown += piece
        except OSError:  # the other end is closed
            pass
        assert process.wait(PATIENCE_SECONDS) == 0
    os.close(terminal)
    assert b"reading data.h5" in shown
    assert b"90.0/100" in shown or b"80.0/100" in shown

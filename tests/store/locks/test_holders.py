"""Who holds a lock: also processes whose names are no text."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import family

from h5fs.daemon import refusals
from h5fs.store.locks.holders import find_lock_holder

_HOLDER = """
import fcntl, os, sys
held = open(sys.argv[1])
fcntl.flock(held, fcntl.LOCK_EX)
open("/proc/self/comm", "wb").write(b"h5fs:Gr\\xc3")  # the kernel cuts names off after 15 bytes
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.semantics("U6")
def test_a_holder_is_named_whose_name_was_cut_off_within_a_character(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.touch()
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, locked], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline()
            said = find_lock_holder(os.stat(locked))
            assert said == f" (h5fs:Gr\\xc3, pid {holder.pid})"
            assert refusals._belongs_to(holder.pid, os.getpid())
            assert holder.pid in set(family(os.getpid()))
        finally:
            holder.send_signal(signal.SIGKILL)

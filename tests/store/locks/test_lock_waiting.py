"""Which locks are waited for, and how long."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.waiting import wait_until

from h5fs.errors import CannotOpenError, HeldByH5fsError
from h5fs.store.locks.lock_waiting import (
    PATIENCE_SECONDS,
    is_left_by_ended_process,
    opened_patiently,
)

# Takes the lock, leaves the file open in a child, and ends.
LEAVE = """
import fcntl, subprocess, sys
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
null = subprocess.DEVNULL
child = subprocess.Popen(["sleep", "100"], pass_fds=[file.fileno()], stdout=null, stderr=null)
print(child.pid)
"""


def lock(file: Path) -> None:
    with file.open() as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotOpenError("locked") from None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "f").touch()
    return tmp_path / "f"


@pytest.mark.semantics("U6")
def test_a_lock_that_a_process_has_left_is_waited_for(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVE, file], capture_output=True, text=True, check=True
    )
    pid = done.stdout.strip()
    try:
        assert is_left_by_ended_process(file)
        start = time.monotonic()
        with pytest.raises(CannotOpenError):
            opened_patiently(file, lambda: lock(file))
        assert time.monotonic() - start >= PATIENCE_SECONDS
        killing = threading.Timer(0.3, subprocess.run, [["kill", pid]])
        killing.start()
        opened_patiently(file, lambda: lock(file))
        killing.join()
    finally:
        subprocess.run(["kill", pid], check=False, capture_output=True)
    assert not is_left_by_ended_process(file)


def test_a_lock_of_a_program_that_lives_is_not(file: Path) -> None:
    with file.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        tries: list[None] = []
        with pytest.raises(CannotOpenError):
            opened_patiently(file, lambda: (tries.append(None), lock(file)))
        assert len(tries) == 1


@pytest.mark.semantics("U6")
def test_a_lock_that_goes_while_its_owner_is_looked_up_is_no_refusal(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVE, file], capture_output=True, text=True, check=True
    )
    pid = int(done.stdout)
    tries: list[None] = []

    def lock_refused_just_before_it_goes() -> None:
        tries.append(None)
        try:
            lock(file)
        except CannotOpenError:
            if len(tries) == 2:
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: not is_left_by_ended_process(file))
            raise

    try:
        opened_patiently(file, lock_refused_just_before_it_goes)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert len(tries) == 3


def test_what_another_h5fs_has_is_waited_for(file: Path) -> None:
    tries: list[None] = []

    def open_it() -> str:
        tries.append(None)
        if len(tries) < 3:
            raise HeldByH5fsError("as asked")
        return "opened"

    assert opened_patiently(file, open_it) == "opened"

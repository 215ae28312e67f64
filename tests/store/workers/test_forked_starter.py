"""A worker starter that a command forks: it serves, is replaced, and ends with the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
from support.waiting import wait_until

# In a process of its own: pytest has threads, and much in memory.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from h5fs.store.workers.starting.forked_starter import ForkedStarter

starter = ForkedStarter()
starter.start()
first = starter.pid
from h5fs.model.settings import StoreOptions
from h5fs.store import open_store

def names():
    store = open_store(StoreOptions(Path(sys.argv[1]), workers=1), starter)
    try:
        return store.list_links(store.root().ref).names
    finally:
        store.close()

assert "h5py" not in sys.modules
assert names() == b"x"
assert "h5py" not in sys.modules
os.kill(first, signal.SIGKILL)
assert names() == b"x"
assert starter.pid != first
starter.close()
for pid in (first, starter.pid):
    assert pid is None or not os.path.exists(f"/proc/{pid}")
print("done", first)
"""


def run(program: str, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, file],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def test_workers_come_from_it_and_after_its_death_from_another(tmp_path: Path) -> None:
    h5py.File(tmp_path / "f.h5", "w").create_dataset("x", data=1).file.close()
    done = run(PROGRAM, tmp_path / "f.h5")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.startswith("done")


def test_it_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    program = PROGRAM.partition("assert names()")[0] + (
        "names(); print(starter.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    h5py.File(tmp_path / "f.h5", "w").create_dataset("x", data=1).file.close()
    done = run(program, tmp_path / "f.h5")
    assert done.returncode == -9
    wait_until(lambda: has_ended(int(done.stdout)))


def has_ended(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True

"""Eight programs change a mount at the same time: nothing that was closed is lost."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path

import h5py
import pytest
from support.kill_writing import kill
from support.mounts import end_mount, mounted, needs_libfuse_3
from support.saving_together import LEAST_CHANGES, Values, play, value_in_file, value_in_mount
from support.waiting import PATIENCE_SECONDS

pytestmark = needs_libfuse_3

PROGRAMS, SECONDS = 8, 4.0


def play_to_the_end(root: Path, seconds: float = SECONDS) -> tuple[Values, Counter[str]]:
    processes, results = play(root, PROGRAMS, seconds)
    values: Values = {}
    counts: Counter[str] = Counter()
    for _ in processes:
        some, counted = results.get(timeout=240)
        values.update(some)
        counts += counted
    for process in processes:
        process.join(PATIENCE_SECONDS)
    return values, counts


def check(file: Path, root: Path, values: Values) -> None:
    for path, allowed in values.items():
        assert value_in_mount(root, path) in allowed, path
    end_mount(root)
    with h5py.File(file) as opened:
        for path, allowed in values.items():
            assert value_in_file(opened, path) in allowed, path


@pytest.mark.semantics("R27")
def test_what_programs_save_together_is_all_there(tmp_path: Path) -> None:
    file = tmp_path / "file.h5"
    with mounted(file, options=["--mode", "w"]) as mount:
        values, counts = play_to_the_end(mount.path)
        assert counts["done"] >= LEAST_CHANGES * PROGRAMS
        assert not any(name.startswith("errno") for name in counts), counts
        assert not any("Traceback" in line for line in mount.log_lines())
        check(file, mount.path, values)


@pytest.mark.semantics("R24", "R27", "U3")
def test_a_killed_worker_takes_nothing_that_was_closed(tmp_path: Path) -> None:
    file = tmp_path / "file.h5"
    rng = random.Random(1)
    begin = time.monotonic()
    with mounted(file, options=["--mode", "w"]) as mount:
        # Workers that are killed faster than others start would let nothing be done.
        slowness = max(1.0, time.monotonic() - begin)
        ends = threading.Event()
        kills = 0

        def kill_now_and_then() -> None:
            nonlocal kills
            while not ends.wait(slowness * rng.uniform(0.1, 0.5)):
                kill(mount.pid, "worker", rng.random())
                kills += 1

        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        try:
            values, counts = play_to_the_end(mount.path, SECONDS * slowness)
        finally:
            ends.set()
            killer.join()
        # Nearly all changes over which a worker was killed are made again, and then none fails.
        assert counts["done"] >= LEAST_CHANGES * PROGRAMS and kills > 2
        assert not any("Traceback" in line for line in mount.log_lines())
        check(file, mount.path, values)

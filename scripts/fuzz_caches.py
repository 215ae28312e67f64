#!/usr/bin/env python3
"""Let several processes change a mount at the same time, and compare what the kernel keeps of it
with what the mount says.

    scripts/fuzz_caches.py [--rounds 20] [--seed 0] [--minutes M] [--actors 3] [-o OPTION]

See tests/support/cache_fuzzing.py for what they do. Every 10 rounds the mount is ended and another
begins. Prints what differs, with the seed and the operations of the turn. Exit status 1 when
something differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.cache_fuzzing import Actors, make_file  # noqa: E402
from support.mounts import mounted  # noqa: E402

_ROUNDS_OF_A_MOUNT = 10


def main() -> int:
    """Play rounds until there are enough, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the first mount")
    parser.add_argument("--minutes", type=float, help="go on with other seeds for so long")
    parser.add_argument("--actors", type=int, default=3, help="processes")
    parser.add_argument("-o", action="append", default=[], metavar="OPTION", help="the mounts'")
    given = parser.parse_args()
    options = ["--mode", "r+", *(part for option in given.o for part in ("-o", option))]
    start, rounds, number, problems = time.monotonic(), 0, given.seed, 0
    operations: Counter[str] = Counter()
    while rounds < given.rounds or given.minutes:
        count = _ROUNDS_OF_A_MOUNT if given.minutes else min(given.rounds - rounds, 10)
        with tempfile.TemporaryDirectory(prefix="h5fs-caches-") as folder:
            file = Path(folder, "file.h5")
            make_file(file)
            with mounted(file, options=options) as mount:
                actors = Actors(mount.path, number, given.actors)
                for _ in range(count):
                    actors.play()
                found = actors.end()
                bad = [line for line in mount.log_lines() if "Traceback" in line]
        for problem in [*found.problems[:20], *bad]:
            print(f"seed {number}: {problem}", flush=True)
        rounds, operations = rounds + found.rounds, operations + found.operations
        problems += len(found.problems) + len(bad)
        print(
            f"seed {number}: {rounds} rounds, {operations.total()} operations, {problems} "
            f"differences, {time.monotonic() - start:.0f} s",
            flush=True,
        )
        number += 1
        if given.minutes and time.monotonic() - start > 60 * given.minutes:
            break
    for name, times in sorted(operations.items()):
        print(f"  {times:7} {name}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

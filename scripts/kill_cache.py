"""Kill processes that read through one cache on disk, many times: are the bytes still right?

    scripts/kill_cache.py [--kills 300] [--seed N]

Exit status 1 at the first wrong byte.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(_TESTS))

from support.kill_cache_readers import kill_readers  # noqa: E402
from support.object_server import ObjectServer  # noqa: E402


def main() -> int:
    """Kill as often as asked; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder, "served")
        served.mkdir()
        with ObjectServer(served) as server:
            try:
                share = kill_readers(server, Path(folder), count=given.kills, seed=given.seed)
            except AssertionError as error:
                print(f"seed {given.seed}: {error}", file=sys.stderr)
                return 1
    print(f"{given.kills} kills (seed {given.seed}): no wrong byte; {share:.0%} were in the cache")
    return 0


if __name__ == "__main__":
    sys.exit(main())

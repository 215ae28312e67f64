#!/usr/bin/env python3
"""Let mounts of one domain of a data service write at once, kill its nodes, look for losses.

    scripts/stress_cluster.py [--rounds 20] [--seed N] [--calm]

A service (HSDS) with four data nodes, on Unix sockets and in a process group of its own; four
mounts with --mode r+. Each round: see tests/support/cluster_writing.py, which the tests use, too.
Prints the seed first, and at the end what was done and seen; nothing is left running or mounted.
Exit status 1 at the first loss. A round takes some 20 to 60 s. Needs `pip install -e '.[test]'`.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).absolute().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
if PYTHON.exists() and Path(sys.prefix) != PYTHON.parent.parent:
    os.execv(PYTHON, [PYTHON, __file__, *sys.argv[1:]])
sys.path.insert(0, str(ROOT / "tests"))

from support.cluster_writing import running_cluster  # noqa: E402
from support.hsds_service import why_missing  # noqa: E402


def main() -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--calm", action="store_true", help="kill nothing")
    given = parser.parse_args()
    if why_missing():
        print(why_missing(), file=sys.stderr)
        return 2
    seed = given.seed if given.seed is not None else secrets.randbelow(10**6)
    print(f"seed {seed}", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have ignored it
        signal.signal(number, lambda *_: sys.exit("ended by a signal"))
    began, loss = time.monotonic(), ""
    with tempfile.TemporaryDirectory(prefix="h5fs-cluster-") as folder:
        os.chdir(folder)  # where mounts leave what is left over
        with running_cluster(Path(folder), seed) as cluster:
            try:
                for number in range(given.rounds):
                    cluster.run_round(kills=not given.calm)
                    print(f"round {number + 1} of {given.rounds}: {time.monotonic() - began:.0f} s",
                          flush=True)  # fmt: skip
            except AssertionError as error:
                loss = str(error)
        left = [str(path) for path in Path(folder).glob("*.h5fs-left/**/*")]
        os.chdir("/")
    for name, count in sorted(cluster.counts.items()):
        print(f"{name}: {count}")
    print(f"left beside the domain: {', '.join(left) or 'nothing'}")
    print(f"LOSS: {loss}" if loss else "no loss")
    return 1 if loss else 0


if __name__ == "__main__":
    sys.exit(main())

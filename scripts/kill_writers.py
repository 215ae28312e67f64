"""Kill mounts and their workers while programs write, and look whether anything is lost.

    scripts/kill_writers.py [--kills 500] [--seed 0] [--json FILE] [-o OPTIONS]

Each round mounts a file, writes arrays, attributes and names through the mount, kills the daemon,
a worker, or all of them with SIGKILL at a random moment, and compares what the next mounts show
with what each call that returned has promised. Exit status 1 at the first loss.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.kill_writing import Killing, LossError

_ROUNDS_PER_FILE = 25


def main() -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("-o", dest="options", default="", metavar="OPTIONS", help="of each mount")
    given = parser.parse_args()
    options = ("-o", given.options) if given.options else ()
    started, done, counts, loss = time.monotonic(), 0, {}, ""
    while done < given.kills and not loss:
        with tempfile.TemporaryDirectory(prefix="h5fs-kill-", dir="/var/tmp") as folder:
            killing = Killing(Path(folder), given.seed + done, options=options)
            try:
                for _ in range(min(_ROUNDS_PER_FILE, given.kills - done)):
                    killing.run_round()
                    done += 1
                    if sys.stderr.isatty():
                        print(f"\r{done} of {given.kills}", end="", file=sys.stderr)
                killing.finish()
            except LossError as error:
                loss = f"seed {given.seed + done}: {error}"
        for name, count in killing.counts.items():
            counts[name] = counts.get(name, 0) + count
    seconds = time.monotonic() - started
    for name, count in sorted(counts.items()):
        print(f"{name}: {count}")
    print(f"{done} kills, {'LOSS: ' + loss if loss else 'no loss'}, {seconds:.0f} s")
    if given.json:
        given.json.write_text(json.dumps({"kills": done, "loss": loss, **counts}, indent=2) + "\n")
    return 1 if loss else 0


if __name__ == "__main__":
    sys.exit(main())

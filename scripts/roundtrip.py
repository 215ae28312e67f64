#!/usr/bin/env python3
"""Copy every HDF5 file of a folder through two mounts with cp -a, and compare what comes out.

    scripts/roundtrip.py [FILE-OR-FOLDER ...] [--seconds 60] [--jobs 1] [-o OPTION] [--json OUT]
                         [--every N] [--verbose]

For each file: mount it, `cp -a` all of it to a folder, `cp -a` that folder into an empty mount in
mode w, unmount, mount what was made, and compare it with the folder: every dataset byte for byte,
attributes with their types, symbolic links, hard links. Prints a table of what was equal, was not
copied, or differs; what the first mount gives errors for, and what cannot survive by design, has
lines of its own. Exit status 1 when anything was not copied, differs or failed.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "scripts")]

from corpus import DEFAULT_CORPUS, find_files  # noqa: E402
from support.round_trip import BAD_RESULTS, Outcome, check_round_trip  # noqa: E402

ORDER = ("equal", "by design", "skipped", *BAD_RESULTS)


def main() -> int:
    """Send files round, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[DEFAULT_CORPUS])
    parser.add_argument("--seconds", type=float, default=60, help="bound for each file")
    parser.add_argument("--jobs", type=int, default=1, help="files at a time")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th file only")
    parser.add_argument("-o", action="append", default=[], metavar="OPTION", help="second mount's")
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    parser.add_argument("--verbose", action="store_true", help="print what is bad as it comes")
    given = parser.parse_args()
    options = tuple(part for option in given.o for part in ("-o", option))
    check = functools.partial(check_round_trip, seconds=given.seconds, options=options)
    outcomes: list[Outcome] = []
    if given.json:
        given.json.write_text("")
    with ThreadPoolExecutor(given.jobs) as pool:
        for found in pool.map(check, list(find_files(given.paths))[:: given.every]):
            outcomes += found
            for outcome in found:
                if outcome.result in BAD_RESULTS and given.verbose:
                    print(json.dumps(vars(outcome)), flush=True)
            if given.json:
                with given.json.open("a") as lines:
                    lines.writelines(json.dumps(vars(outcome)) + "\n" for outcome in found)
    print_table(outcomes)
    return 1 if any(outcome.result in BAD_RESULTS for outcome in outcomes) else 0


def print_table(outcomes: list[Outcome]) -> None:
    """Print how many of what came out how, and one place for each."""
    counts = collections.Counter((o.result, o.kind, o.reason) for o in outcomes)
    places = {(o.result, o.kind, o.reason): o.where for o in reversed(outcomes)}
    for result in ORDER:
        rows = sorted(row for row in counts if row[0] == result)
        if not rows:
            continue
        print(f"\n{result}: {sum(counts[row] for row in rows)}")
        for row in rows:
            print(f"  {counts[row]:>7}  {row[1]:<11} {row[2][:150]}")
            if result in BAD_RESULTS:
                print(f"           {'':<11} e.g. {places[row]}")


if __name__ == "__main__":
    sys.exit(main())

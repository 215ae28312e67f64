#!/usr/bin/env python3
"""Cut the power, kill the process, fail system calls under the redo log, and see what is left.

    scripts/powercut.py [--states 2000] [--seed 0] [--largest 200000]
    scripts/powercut.py --faults [--seed 0]
    scripts/powercut.py --mutants [--states 2000] [--seed 0]

HDF5 files are really written, through h5py and the shipped log, on a disk in memory that keeps
every call. Then the power is cut somewhere: of what no fsync waited for, any part may be there, in
sectors of 512 bytes. The kernel that starts then has another boot id, and must find the last
durable commit, or the one under way. After a kill it must find the last commit of either kind. The
file is compared byte by byte, and each commit's content with what h5py read before it. Work goes on
after cuts and kills, and recovery is cut off too. A quarter of the states are of files that the
shipped worker changes, several changes by one commit: all that it has answered must be there, and
of changes made together all or none.

--faults lets the n-th system call fail, for every n, once and for good. --mutants leaves out, one
at a time, what the log's safety rests on, and shows that this program notices: by the HDF5 work, or
by random writes, truncations and cuts of a file of plain bytes; and what making changes together
rests on, by the worker's changes. Prints a table; exit status 1 when a commit was lost, or a mutant
was not noticed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "store" / "log")]

from change_cuts import CHANGE_MUTANTS, run_changes_campaign  # noqa: E402
from fault_injection import inject_faults  # noqa: E402
from file_model import find_loss  # noqa: E402
from power_cuts import MUTANTS, Tally, run_campaign  # noqa: E402


def main() -> int:
    """Run what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--states", type=int, default=2000, help="how many states to look at")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=200_000, help="bytes of the largest arrays")
    parser.add_argument("--faults", action="store_true", help="let system calls fail instead")
    parser.add_argument("--mutants", action="store_true", help="show that mutants are noticed")
    options = parser.parse_args()
    if options.faults:
        tally = inject_faults(options.seed, show)
        print_table(tally)
        return 1 if tally.losses else 0
    if options.mutants:
        return try_mutants(options)
    of_changes = options.states // 4
    tally = run_campaign(options.states - of_changes, options.seed, options.largest, show)
    print_table(tally)
    print("by changes together:")
    changes = run_changes_campaign(of_changes, options.seed, Path(__file__), show)
    print_table(changes)
    return 1 if tally.losses or changes.losses else 0


def try_mutants(options: argparse.Namespace) -> int:
    """Run the campaigns against each mutant that they are for, each until it notices."""
    missed = 0
    print(f"{'left out':56} {'HDF5 work':>12} {'plain bytes':>12}")
    for name, mutant in MUTANTS.items():
        with mutant() as skipped:
            tally = run_campaign(
                options.states, options.seed, options.largest, show, skipped, stops_early=True
            )
            loss = find_loss(options.states, options.seed, skipped)
        clear()
        by_work = f"{tally.states} states" if tally.losses else "-"
        by_bytes = f"{loss.split()[1].strip(':')} sessions" if loss else "-"
        missed += by_work == by_bytes == "-"
        print(f"{name:56} {by_work:>12} {by_bytes:>12}", flush=True)
    print(f"{'left out':56} {'changes together':>25}")
    for name, mutant in CHANGE_MUTANTS.items():
        with mutant():
            tally = run_changes_campaign(
                options.states, options.seed, Path(__file__), show, stops_early=True
            )
        clear()
        missed += not tally.losses
        print(f"{name:56} {f'{tally.states} states' if tally.losses else '-':>25}", flush=True)
    print(f"{missed} of {len(MUTANTS) + len(CHANGE_MUTANTS)} not noticed")
    return 1 if missed else 0


def show(text: str) -> None:
    """Say how far it is, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:70}", end="", file=sys.stderr, flush=True)


def clear() -> None:
    """Leave the terminal's line as if nothing had been said."""
    if sys.stderr.isatty():
        print("\r" + " " * 70 + "\r", end="", file=sys.stderr, flush=True)


def print_table(tally: Tally) -> None:
    """Print what was looked at and what was lost."""
    clear()
    for name, count in sorted(tally.counts.items()):
        print(f"{name:40} {count:8}")
    print(f"{'lost':40} {len(tally.losses):8}")
    for loss in tally.losses[:20]:
        print(f"  {loss}")


if __name__ == "__main__":
    sys.exit(main())

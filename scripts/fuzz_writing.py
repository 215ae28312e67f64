#!/usr/bin/env python3
"""Do random operations on a mount in mode w and on a plain folder, and see that both are the same.

    scripts/fuzz_writing.py [--examples 200] [--seed 0] [--minutes M] [--steps 50] [-o OPTION]
    scripts/fuzz_writing.py --names [--examples 200] [--seed 0] [--minutes M] [--steps 50]
    scripts/fuzz_writing.py [--names] --replay FILE

An example is a sequence of operations (np.save, attribute files, pwrite, truncate, append, mkdir,
rename, link, open handles, ...). After each operation names, kinds, contents and errnos are
compared; from time to time the file is unmounted and compared with h5py. What fails is shrunk, and
printed as a list that --replay (a file with that list) does again. Exit status 1 when something
failed.

With --names, arrays have several names, some of them temporary, and are written, renamed and
removed by several of them at once: without a mount, against a small model (``names_model``).
"""

from __future__ import annotations

import argparse
import ast
import logging
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hypothesis import HealthCheck, Phase, seed, settings  # noqa: E402
from hypothesis.stateful import run_state_machine_as_test  # noqa: E402
from support.names_playing import play, random_operations, shorten  # noqa: E402
from support.write_machine import Session, WriteMachine, minimize  # noqa: E402


def main() -> int:
    """Run examples until there are enough, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first 100 examples")
    parser.add_argument("--minutes", type=float, help="go on with other seeds for so long")
    parser.add_argument("--steps", type=int, default=50, help="operations in an example, at most")
    parser.add_argument("--replay", type=Path, help="a file with a list of operations")
    parser.add_argument("-o", action="append", default=[], metavar="OPTION", help="the mounts'")
    parser.add_argument("--names", action="store_true", help="several names of arrays, no mount")
    given = parser.parse_args()
    if given.names:
        return play_names(given)
    options = ("--mode", "w", *(part for option in given.o for part in ("-o", option)))
    if given.replay:
        return replay(given.replay, options)
    start, done, number, failures = time.monotonic(), 0, given.seed, 0
    while done < given.examples or given.minutes:
        count = 100 if given.minutes else min(given.examples - done, 100)
        failures += not run_batch(number, count, given.steps, options)
        done, number = done + count, number + 1
        print(f"seed {number - 1}: {done} examples, {failures} failures", flush=True)
        if given.minutes and time.monotonic() - start > 60 * given.minutes:
            break
    return 1 if failures else 0


def play_names(given: argparse.Namespace) -> int:
    """Play lists of operations on arrays of several names."""
    logging.disable(logging.CRITICAL)
    if given.replay:
        message, _ = play(ast.literal_eval(given.replay.read_text()))
        print(message or "no difference")
        return 1 if message else 0
    start, failures, counts, number = time.monotonic(), 0, dict[Any, int](), given.seed
    while number < given.seed + given.examples or given.minutes:
        message, done = play(random_operations(Random(number), given.steps), counts)
        if message:
            failures += 1
            message, done = shorten(done)
            lines = "".join(f"  {each!r},\n" for each in done)
            print(f"seed {number}: {message:.1000}\n[\n{lines}]", flush=True)
        number += 1
        if given.minutes and time.monotonic() - start > 60 * given.minutes:
            break
    print(f"{number - given.seed} lists, {failures} failures")
    for (name, answer), count in sorted(counts.items()):
        print(f"  {name} {answer}: {count}")
    return 1 if failures else 0


def run_batch(number: int, count: int, steps: int, options: tuple[str, ...]) -> bool:
    """Return whether as many examples went well."""
    session = Session(options)

    class Machine(WriteMachine):
        pass

    Machine.session = session
    chosen = settings(
        max_examples=count, stateful_step_count=steps, deadline=None, database=None,
        report_multiple_bugs=False, suppress_health_check=list(HealthCheck), print_blob=False,
        phases=[Phase.generate],
    )  # fmt: skip
    try:
        run_state_machine_as_test(seed(number)(Machine), settings=chosen)
        session.finish()
    except Exception as error:
        said = minimize(session, session.failed) if session.failed else f"{error!r:.3000}"
        print(f"seed {number}: {said}", flush=True)
        return False
    finally:
        session.abandon()
    return True


def replay(file: Path, options: tuple[str, ...]) -> int:
    """Do the operations of a file."""
    session = Session(options)
    model = session.begin()
    try:
        for operation in ast.literal_eval(file.read_text()):
            print(operation, flush=True)
            model.run(operation)
            model.compare_mount()
        model.close_handles()
        session.end(model)
        session.finish()
    except Exception as error:
        print(error)
        return 1
    finally:
        for line in session.log:
            print(line)
        session.abandon()
    return 0


if __name__ == "__main__":
    sys.exit(main())

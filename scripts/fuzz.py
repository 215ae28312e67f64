#!/usr/bin/env python3
"""Mount damaged copies of HDF5 files, read all of each, and see that the mount outlives it.

    scripts/fuzz.py [FILE-OR-FOLDER ...] [--count 200] [--seed 0] [--seconds S] [--deadline 2]
                    [--memory 1G] [--jobs 2] [--bulk] [--json OUT] [--keep FOLDER] [--verbose]
    scripts/fuzz.py --replay SEED [--keep FOLDER]
    scripts/fuzz.py --worker [--count 10000] [--seed 0] [--only MODE]

Each mutant (flipped bits, odd integers, swapped addresses, pages of another file, cut ends) follows
from its seed and the source files. It is mounted with a short deadline; everything in it is listed
and read from outside. The mount must answer to the end, in time, in bounded memory, with the same
daemon, and leave no process behind. Prints what came of all, with the seeds of hangs, crashes and
refused memory that became an error. Exit status 1 when a mount failed.

With --bulk nothing is mounted: the same tree over the same worker processes answers directly, ten
times as many mutants in the time.

With --worker the file is sound and its workers are taken over: they answer garbage, late, twice,
empty, too long, hang up or lie, so many answers of each. What asks them must go on, refuse what is
wrong, wait for nothing without end, and end when it is told to.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.bulk_fuzzing import check_in_bulk, start_starter  # noqa: E402
from support.fuzzing import (  # noqa: E402
    Limits,
    Verdict,
    check_mutant,
)
from support.lying_workers import MODES, meet_liars  # noqa: E402
from support.mutants import (  # noqa: E402
    Mutant,
    find_sources,
    make_mutant,
)

DEFAULT_CORPUS = ROOT.parent / "shared" / "corpus"
SEEDS_SHOWN = 12


def main() -> int:
    """Check mutants, print the counts."""
    given = _parse()
    if given.worker:
        return _meet_liars(given)
    sources = [source for path in given.paths for source in _find(path)]
    if not sources:
        print(f"no HDF5 files in {', '.join(map(str, given.paths))}", file=sys.stderr)
        return 2
    limits = Limits(
        deadline_seconds=given.deadline,
        slack_seconds=given.slack,
        memory_bytes=given.memory,
        options=tuple(given.o),
    )
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    verdicts: list[Verdict] = []
    for mutant, verdict in _check_all(_choose_seeds(given), sources, limits, given):
        verdicts.append(verdict)
        if verdict.failures or verdict.trouble or given.verbose or given.replay is not None:
            _print_verdict(verdict, with_log=given.replay is not None)
        if given.keep and (verdict.failures or verdict.trouble or given.replay is not None):
            (given.keep / f"{mutant.seed}.h5").write_bytes(mutant.content)
    report = summarize(verdicts, seconds=time.monotonic() - start)
    _print_report(report)
    if given.json:
        noted = [v.as_json() for v in verdicts if v.failures or v.trouble]
        given.json.write_text(json.dumps({**report, "noted": noted}, indent=1) + "\n")
    return 1 if report["failures"] else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[DEFAULT_CORPUS])
    parser.add_argument("--seed", type=int, default=0, help="of the first mutant")
    parser.add_argument("--count", type=int, help="how many mutants (200, or until --seconds)")
    parser.add_argument("--seconds", type=float, help="begin no mutant after so long")
    parser.add_argument("--replay", type=int, metavar="SEED", help="this one alone, with its log")
    parser.add_argument("--deadline", type=float, default=2, help="the mounts' -o deadline")
    parser.add_argument("--slack", type=float, default=10, help="what an answer may take beyond it")
    parser.add_argument("--memory", type=_parse_size, default=2**30, help="the mounts' -o memory")
    parser.add_argument("-o", action="append", default=[], metavar="OPTION", help="one more")
    parser.add_argument("--jobs", type=int, default=2, help="mounts at a time")
    parser.add_argument("--worker", action="store_true", help="workers that were taken over")
    parser.add_argument("--only", choices=MODES, help="with --worker: this way to misbehave")
    parser.add_argument("--bulk", action="store_true", help="without mounts, faster")
    parser.add_argument("--json", type=Path, help="write the counts and what was noted")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write mutants of note there")
    parser.add_argument("--verbose", action="store_true", help="print every mutant")
    return parser.parse_args()


def _meet_liars(given: argparse.Namespace) -> int:
    failed = False
    for mode in (given.only,) if given.only else MODES:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="h5fs-liars-") as folder:
            asking = meet_liars(mode, given.count or 10_000, given.seed, Path(folder))
        failed |= bool(asking.failures)
        print(
            f"{mode}: {asking.answers} answers in {time.monotonic() - start:.0f} s, "
            f"slowest question {asking.slowest:.1f} s, {len(asking.failures)} failures; "
            f"{dict(asking.outcomes.most_common())}",
            flush=True,
        )
        for failure in asking.failures[:20]:
            print(f"    FAILED: {failure[:300]}")
    return 1 if failed else 0


def _parse_size(text: str) -> int:
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    return int(float(text.rstrip("KMG")) * units.get(text[-1:], 1))


def _find(path: Path) -> list[Path]:
    return find_sources(path) if path.is_dir() else [path]


def _choose_seeds(given: argparse.Namespace) -> Iterator[int]:
    if given.replay is not None:
        return iter([given.replay])
    count = given.count or (None if given.seconds else 200)
    seeds = itertools.count(given.seed)
    return seeds if count is None else itertools.islice(seeds, count)


def _check_all(
    seeds: Iterator[int], sources: list[Path], limits: Limits, given: argparse.Namespace
) -> Iterator[tuple[Mutant, Verdict]]:
    """Yield each mutant and what came of it, as they end; so many at a time."""
    end = time.monotonic() + (given.seconds or float("inf"))
    running: dict[Future[Verdict], Mutant] = {}
    check: Callable[[Mutant, Limits], Verdict] = check_mutant
    pool: Executor = ThreadPoolExecutor(given.jobs)
    if given.bulk:  # processes: each has a log and a worker starter of its own
        pool, check = ProcessPoolExecutor(given.jobs, initializer=start_starter), check_in_bulk
    with pool:
        while True:
            while len(running) < given.jobs and time.monotonic() < end:
                seed = next(seeds, None)
                if seed is None:
                    break
                mutant = make_mutant(seed, sources)
                running[pool.submit(check, mutant, limits)] = mutant
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(done), done.result()


def summarize(verdicts: list[Verdict], *, seconds: float) -> dict[str, object]:
    """Return the counts of all mutants as JSON's plain values."""
    trouble: dict[str, list[int]] = collections.defaultdict(list)
    errnos: collections.Counter[str] = collections.Counter()
    for verdict in verdicts:
        for kind in verdict.trouble:
            trouble[kind].append(verdict.seed)
        for what, count in verdict.counts.items():
            errnos[what.rpartition(" ")[2]] += count
    slowest = max(verdicts, key=lambda v: v.slowest[0], default=None)
    largest = max(verdicts, key=lambda v: v.peak_bytes, default=None)
    return {
        "mutants": len(verdicts),
        "seconds": round(seconds, 1),
        "outcomes": dict(collections.Counter(v.outcome for v in verdicts).most_common()),
        "read to the end": sum(v.outcome == "mounted" and v.ended for v in verdicts),
        "objects and answers": dict(errnos.most_common()),
        "trouble turned into errors": {
            kind: {
                "mutants": len(seeds),
                "times": sum(v.trouble.get(kind, 0) for v in verdicts),
                "seeds": sorted(seeds),
            }
            for kind, seeds in sorted(trouble.items())
        },
        "slowest answer": [slowest.seed, *slowest.slowest] if slowest else None,
        "largest memory MiB": [largest.seed, largest.peak_bytes >> 20] if largest else None,
        "failures": {str(v.seed): v.failures for v in verdicts if v.failures},
    }


def _print_verdict(verdict: Verdict, *, with_log: bool) -> None:
    print(
        f"seed {verdict.seed}: {verdict.source} ({verdict.digest}): {verdict.outcome}, "
        f"{verdict.seconds:.1f} s, {verdict.peak_bytes >> 20} MiB, {verdict.trouble or ''}"
    )
    for failure in verdict.failures:
        print(f"    FAILED: {failure}")
    if with_log or verdict.failures:
        for text in (*verdict.changes, *verdict.log[: 200 if with_log else 20]):
            print(f"    {text}")
    sys.stdout.flush()


def _print_report(report: dict[str, object]) -> None:
    for name, value in report.items():
        if not isinstance(value, dict):
            print(f"{name}: {value}")
            continue
        print(f"{name}:" + ("" if value else " none"))
        for key, detail in value.items():
            shown = detail
            if isinstance(detail, dict):
                seeds = detail["seeds"]
                more = " ..." if len(seeds) > SEEDS_SHOWN else ""
                shown = f"{detail['times']} times in {detail['mutants']} mutants, seeds "
                shown += ", ".join(map(str, seeds[:SEEDS_SHOWN])) + more
            print(f"    {key}: {shown}")


if __name__ == "__main__":
    sys.exit(main())

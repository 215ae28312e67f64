#!/usr/bin/env python3
"""Mount every HDF5 file of a folder, read all of it, and compare it with h5py object by object.

    scripts/corpus.py [FILE-OR-FOLDER ...] [--seconds 60] [--jobs N] [--json OUT] [--verbose]

For each file: mount, walk and read everything (bounded in time), then compare each dataset,
attribute file and link with what h5py says, in a process of its own, since some of these files
crash or hang the HDF5 library. Prints a table of what was equal, refused or failed, by reason.
Exit status 1 when anything failed.
"""

from __future__ import annotations

import argparse
import collections
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

DEFAULT_CORPUS = ROOT.parent / "shared" / "corpus"
SUFFIXES = {
    ".h5", ".hdf5", ".hdf", ".he5", ".nc", ".nc4", ".nxs", ".h5ad", ".h5mu", ".mat", ".nwb",
    ".fast5", ".bag", ".cool", ".mcool", ".loom", ".keras",
}  # fmt: skip
LARGEST_WHOLE_READ_BYTES = 256 * 2**20
LARGEST_WALK = 50_000


@dataclass(frozen=True)
class Outcome:
    """One checked thing. ``result`` is equal, refused (rightly), or FAILED; ``reason`` says why."""

    kind: str
    result: str
    reason: str
    where: str

    def line(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(vars(self))


def main() -> int:
    """Check files, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[DEFAULT_CORPUS])
    parser.add_argument("--seconds", type=float, default=60, help="bound for each file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="files at a time")
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    parser.add_argument("--verbose", action="store_true", help="print what failed as it fails")
    parser.add_argument("--compare", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.compare:
        for outcome in compare_with_h5py(*given.compare):
            print(outcome.line(), flush=True)
        return 0
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(given.jobs) as pool:
        check = functools.partial(check_whole_file, seconds=given.seconds)
        for found in pool.map(check, find_files(given.paths)):
            outcomes += found
            for outcome in found:
                if outcome.result == "FAILED" and given.verbose:
                    print(outcome.line(), flush=True)
    if given.json:
        given.json.write_text("".join(outcome.line() + "\n" for outcome in outcomes))
    print_table(outcomes)
    return 1 if any(outcome.result == "FAILED" for outcome in outcomes) else 0


def find_files(paths: list[Path]) -> Iterator[Path]:
    """Yield the files that are HDF5 files or are named as such."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for file in sorted(path.rglob("*")):
            if file.is_file() and (file.suffix.lower() in SUFFIXES or has_signature(file)):
                yield file


def has_signature(file: Path) -> bool:
    """Whether the file begins as an HDF5 file does."""
    with file.open("rb") as opened:
        return opened.read(8) == b"\x89HDF\r\n\x1a\n"


def check_whole_file(file: Path, *, seconds: float) -> list[Outcome]:
    """Return every outcome of one file."""
    return list(check_file(file, seconds))


def check_file(file: Path, seconds: float) -> Iterator[Outcome]:
    """Mount one file, read everything, compare; the mount is always taken down."""
    from support.mounts import MountFailedError, mounted

    before = digest(file)
    deadline = time.monotonic() + seconds
    try:
        with mounted(file) as mount:
            yield from walk(file, mount.path, deadline)
            yield from run_comparison(file, mount.path, deadline)
            if not Path(f"/proc/{mount.pid}").exists():
                yield Outcome("file", "FAILED", "the daemon died", str(file))
    except MountFailedError as error:
        yield judge_refused_mount(file, str(error))
    except subprocess.TimeoutExpired:
        yield Outcome("file", "FAILED", "the mount command hung", str(file))
    else:
        yield Outcome("file", "equal", "mounted", str(file))
    if digest(file) != before:
        yield Outcome("file", "FAILED", "the file's bytes or mtime changed", str(file))


def digest(file: Path) -> tuple[str, int]:
    """Return a digest of the file's bytes, and its mtime in nanoseconds."""
    return hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns


def judge_refused_mount(file: Path, message: str) -> Outcome:
    """Compare a refused mount with h5py: it is right when h5py refuses too."""
    program = "import h5py, sys; h5py.File(sys.argv[1], 'r')['/'].keys()"
    command = [sys.executable, "-c", program, str(file)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    if done.returncode == 0:
        return Outcome("file", "FAILED", f"not mounted: {message}", str(file))
    return Outcome("file", "refused", "h5py does not open it either", str(file))


def walk(file: Path, mountpoint: Path, deadline: float) -> Iterator[Outcome]:
    """List and read everything through the mount, in a process that can be killed."""
    child = subprocess.Popen(
        [sys.executable, "-c", WALKER, str(mountpoint), str(LARGEST_WALK)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        out, _ = child.communicate(timeout=max(deadline - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
        child.kill()
        yield Outcome("walk", "FAILED", "the walk hung", str(file))
        return
    if child.returncode:
        yield Outcome("walk", "FAILED", f"the walk ended with {child.returncode}", str(file))
        return
    for name, count in json.loads(out).items():
        verdict = "FAILED" if name in ("ENOTCONN", "ECONNABORTED", "endless") else "equal"
        for _ in range(count if verdict == "FAILED" else 0):
            yield Outcome("walk", verdict, name, str(file))
    yield Outcome("walk", "equal", "ended", str(file))


# Runs apart from h5fs and h5py: os alone, as any program would.
WALKER = r"""
import collections, errno, json, os, sys
counts = collections.Counter()
budget = int(sys.argv[2])
stack = [os.fsencode(sys.argv[1])]
while stack:
    try:
        entries = sorted(os.scandir(stack.pop()), key=lambda e: e.name)
    except OSError as e:
        counts[errno.errorcode[e.errno]] += 1
        continue
    for entry in entries:
        budget -= 1
        if budget < 0:
            counts["endless"] += 1
            stack.clear()
            break
        try:
            status = entry.stat(follow_symlinks=False)
            if entry.is_symlink():
                os.readlink(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
            else:
                with open(entry.path, "rb", buffering=0) as f:
                    total = 0
                    while total < 2**28 and (piece := f.read(2**20)):
                        total += len(piece)
                    if total < 2**28 and total != status.st_size:
                        counts["short"] += 1
                counts["read"] += 1
        except OSError as e:
            counts[errno.errorcode[e.errno]] += 1
print(json.dumps(counts))
"""


def run_comparison(file: Path, mountpoint: Path, deadline: float) -> Iterator[Outcome]:
    """Compare in a child; say so when HDF5 crashes or hangs in it."""
    command = [sys.executable, __file__, "--compare", str(file), str(mountpoint)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = child.communicate(timeout=max(deadline - time.monotonic(), 5))
        ended = f"exit status {child.returncode}: {err.strip().splitlines()[-1:]}"
    except subprocess.TimeoutExpired:
        child.kill()
        out, _ = child.communicate()
        ended = "timeout"
        child.returncode = -signal.SIGALRM
    for line in out.splitlines():
        yield Outcome(**json.loads(line))
    if child.returncode < 0:
        yield Outcome("comparison", "refused", f"h5py itself crashes or hangs ({ended})", str(file))
    elif child.returncode:
        yield Outcome("comparison", "FAILED", ended, str(file))


def compare_with_h5py(file: Path, mountpoint: Path) -> Iterator[Outcome]:
    """Yield an outcome for every dataset, attribute and soft link that h5py shows."""
    import h5py
    from support.comparison import compare_objects

    try:
        import hdf5plugin  # noqa: F401  (registers its filters with this process's HDF5)
    except ImportError:
        print("hdf5plugin is not installed", file=sys.stderr)
    with h5py.File(file, "r") as opened:
        for kind, result, reason, where in compare_objects(opened, os.fsencode(mountpoint)):
            yield Outcome(kind, result, reason, f"{file}:{where}")


def print_table(outcomes: list[Outcome]) -> None:
    """Print how many of what came out how."""
    counts = collections.Counter((o.kind, o.result, o.reason) for o in outcomes)
    width = max((len(reason) for _, _, reason in counts), default=0)
    print(f"{'what':<12}{'result':<10}{'count':>8}  {'reason':<{min(width, 100)}}")
    for (kind, result, reason), count in sorted(counts.items()):
        print(f"{kind:<12}{result:<10}{count:>8}  {reason[:160]}")


if __name__ == "__main__":
    sys.exit(main())

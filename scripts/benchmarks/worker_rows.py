"""Rows that show what the worker processes cost: against ``-o workers=0``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from benchmarks.contenders import Contender
from benchmarks.files import SMALL_NAMES, Files
from benchmarks.listing_rows import list_mount
from benchmarks.rows import Bench, Measure, Row, Sample

NO_WORKERS = "workers=0"
LISTING_BAR = 1.2
FEW_READS_SHARE = 10
BLOCK_BYTES = 128 * 1024


def stat_datasets(bench: Bench, contender: Contender, *, options: str = "") -> Sample:
    """``stat`` datasets of a large group, each for the first time."""
    files = bench.files
    count = min(bench.reads, files.objects)
    with contender.mount(files.many(), options) as mount:
        folder = mount.find_folder("many")
        took = bench.probe(
            "stats", folder=folder, names=SMALL_NAMES, total=files.objects, count=count
        )
    return took.each_of(count)


def read_small(
    bench: Bench, contender: Contender, *, file: Callable[[Files], Path], options: str = ""
) -> Sample:
    """Random 4 KiB reads, a FUSE request each."""
    count = max(1, bench.reads // FEW_READS_SHARE)
    with contender.mount(file(bench.files), options) as mount:
        return bench.probe("pread_rows", path=mount.find("data"), count=count).each_of(count)


def read_large(
    bench: Bench, contender: Contender, *, file: Callable[[Files], Path], options: str = ""
) -> Sample:
    """The whole file in order, 128 KiB at a time."""
    with contender.mount(file(bench.files), options) as mount:
        return bench.probe("blocks", path=mount.find("data"), size=BLOCK_BYTES)


def _row(
    key: str,
    title: str,
    measure: Callable[..., Sample],
    *,
    bar: float | None = None,
    unit: str = "s",
) -> Row:
    compare: Measure = functools.partial(measure, options=NO_WORKERS)
    return Row(
        key=key,
        title=f"workers: {title}",
        against=f"-o {NO_WORKERS}",
        measure=measure,
        compare=compare,
        bar=bar,
        unit=unit,
        h5fs_only=True,
        method="a fresh mount for each run, its chunk cache empty; no bar: for information"
        if bar is None
        else "a fresh mount for each run",
    )


# Read by pread; decoded by h5fs; read through the HDF5 library, as any other filter.
_FILES: tuple[tuple[str, Callable[[Files], Path]], ...] = (
    ("contiguous", Files.plain),
    ("gzip", lambda files: files.filtered("gzip")),
    ("scaleoffset", lambda files: files.filtered("scaleoffset")),
)

WORKER_ROWS = (
    _row("13", "stat of a dataset, cold", stat_datasets, unit="us"),
    _row("14-ls", "listing, `ls -f`", functools.partial(list_mount, program="ls"), bar=LISTING_BAR),
    _row(
        "14-find",
        "listing, `find -size +0`",
        functools.partial(list_mount, program="find"),
        bar=LISTING_BAR,
    ),
    *(
        _row(
            f"15-{name}",
            f"4 KiB reads, {name}",
            functools.partial(read_small, file=file),
            unit="us",
        )
        for name, file in _FILES
    ),
    *(
        _row(f"16-{name}", f"128 KiB reads, {name}", functools.partial(read_large, file=file))
        for name, file in _FILES
    ),
)

"""Rows that list and stat a group of many datasets."""

from __future__ import annotations

import functools
from collections.abc import Callable

from benchmarks.contenders import Contender, FailedError, read_through
from benchmarks.rows import Bench, Row, Sample

LARGE_FACTOR = 10

_PROGRAMS: dict[str, Callable[[str], list[str]]] = {
    "ls": lambda folder: ["ls", "-f", folder],
    "find": lambda folder: ["find", folder, "-mindepth", "1", "-size", "+0"],
}


def list_mount(
    bench: Bench, contender: Contender, *, program: str, times: int = 1, options: str = ""
) -> Sample:
    """List the group through a fresh mount, or a second time through the same."""
    with contender.mount(bench.files.many(), options) as mount:
        return run_listing(bench, program, mount.find_folder("many"), bench.files.objects, times)


def list_folder(bench: Bench, _: Contender, *, program: str, times: int = 1) -> Sample:
    """List a real folder with the same files, their inodes in memory."""
    read_through(bench.files.many_npy())
    return run_listing(bench, program, str(bench.files.many_npy()), bench.files.objects, times)


def list_per_object(
    bench: Bench, contender: Contender, *, program: str, times: int = 1, factor: int = 1
) -> Sample:
    """Microseconds for each object, in a group of so many times the usual number."""
    count = bench.files.objects * factor
    with contender.mount(bench.files.many(factor)) as mount:
        took = run_listing(bench, program, mount.find_folder("many"), count, times)
    return Sample(took.each_of(count).value)  # the digests differ: so do the groups


def run_listing(bench: Bench, program: str, folder: str, count: int, times: int) -> Sample:
    """Time a program over a folder of so many entries. Raises ``FailedError`` for others."""
    took = bench.probe("command", words=_PROGRAMS[program](folder), times=times)
    dots = 2 if program == "ls" else 0
    if took.digest != [count + dots]:
        raise FailedError(f"{program} printed {took.digest[0]} lines, not {count + dots}")
    return took


_LISTINGS = (
    ("ls", "`ls -f`", "ls", 1, 1.5),
    ("find-cold", "`find -size +0`, cold", "find", 1, 3.0),
    ("find-warm", "`find -size +0`, warm", "find", 2, 0.4),
)

LISTING_ROWS = tuple(
    Row(
        key=f"10-{key}",
        title=f"many datasets in one group: {title}",
        against="a real folder of .npy",
        measure=functools.partial(list_mount, program=program, times=times),
        compare=functools.partial(list_folder, program=program, times=times),
        bar=bar,
        is_absolute=True,
        method="a fresh mount for each run; the real folder's inodes are in memory, always",
    )
    for key, title, program, times, bar in _LISTINGS
)

LARGE_LISTING_ROWS = tuple(
    Row(
        key=f"11-{key}",
        title=f"ten times as many, per object: {title}",
        against="the usual number, per object",
        measure=functools.partial(
            list_per_object, program=program, times=times, factor=LARGE_FACTOR
        ),
        compare=functools.partial(list_per_object, program=program, times=times),
        bar=1.3,
        unit="us",
        is_slow=True,
        method="both through a fresh mount",
    )
    for key, title, program, times, _ in _LISTINGS
)

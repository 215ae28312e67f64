"""Rows that walk a group of small datasets with attributes, as files of real instruments are."""

from __future__ import annotations

import functools
from collections.abc import Callable

from benchmarks.contenders import Contender, FailedError, read_through
from benchmarks.files import ATTRIBUTES_OF_EACH
from benchmarks.rows import Bench, Row, Sample
from benchmarks.walk_probes import ATTRIBUTE_FILES

_SEARCH = ["grep", "-r", "units", f"--include=*{ATTRIBUTE_FILES}"]


def list_with_sizes(bench: Bench, contender: Contender) -> Sample:
    """``ls -lR`` through a fresh mount: the size of every file."""
    count = bench.files.small_objects
    # Two files of each dataset; two folders, each with its name and total, and one folder's line.
    return _run(bench, contender, lambda folder: ["ls", "-lR", folder], 2 * count + 6)


def search_attributes(bench: Bench, contender: Contender) -> Sample:
    """``grep -r`` over the attribute files through a fresh mount."""
    return _run(bench, contender, lambda folder: [*_SEARCH, folder], bench.files.small_objects)


def copy_tree(bench: Bench, contender: Contender, *, program: str) -> Sample:
    """Copy everything through a fresh mount."""
    with contender.mount(bench.files.small()) as mount:
        return bench.probe("copy_tree", program=program, folder=str(mount.path))


def visit_with_h5py(bench: Bench, _: Contender, *, with_data: bool) -> Sample:
    """One program visits all with h5py."""
    path = bench.files.small()
    read_through(path)
    took = bench.probe("visit_with_h5py", file=str(path), with_data=with_data)
    arrays, attributes, _total = took.digest[0]
    count = bench.files.small_objects
    if (arrays, attributes) != (count * with_data, count * ATTRIBUTES_OF_EACH):
        raise FailedError(f"h5py found {arrays} arrays and {attributes} attributes")
    return took


def _visit(bench: Bench, contender: Contender, *, with_data: bool) -> Sample:
    return Sample(visit_with_h5py(bench, contender, with_data=with_data).value)


def _run(
    bench: Bench, contender: Contender, words: Callable[[str], list[str]], lines: int
) -> Sample:
    with contender.mount(bench.files.small()) as mount:
        took = bench.probe("command", words=words(str(mount.path)))
    if took.digest != [lines]:
        raise FailedError(f"{took.digest[0]} lines were printed, not {lines}")
    return Sample(took.value)


_METHOD = (
    "a group of 800-byte datasets (--small), half of them gzip, three attributes each; a fresh "
    "mount for each run; copies go to memory; h5py visits all objects in one program, and reads "
)
_ALL = "all data and attributes"

SMALL_ROWS = (
    Row(
        key="20-ls",
        title="many small datasets with attributes: `ls -lR`",
        against="h5py visits all",
        measure=list_with_sizes,
        compare=functools.partial(_visit, with_data=True),
        bar=0.7,
        method=_METHOD + _ALL,
    ),
    Row(
        key="20-grep",
        title="the same: `grep -r` over the attribute files",
        against="h5py visits all attributes",
        measure=search_attributes,
        compare=functools.partial(_visit, with_data=False),
        bar=1.5,
        method=_METHOD + "all attributes",
    ),
    *(
        Row(
            key=f"20-{program}",
            title=f"the same: `{words}`",
            against="h5py visits all",
            measure=functools.partial(copy_tree, program=program),
            compare=functools.partial(visit_with_h5py, with_data=True),
            bar=bar,
            method=_METHOD + _ALL,
        )
        for program, words, bar in (
            ("cp", "cp -r", 1.5), ("tar", "tar c", 1.7), ("rsync", "rsync -a", 1.7)
        )
    ),
)  # fmt: skip

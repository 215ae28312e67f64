"""Rows that change files of a mount in mode r+ beside h5py with a flush for each, and ext4.

After each measurement the HDF5 file must hold what h5py made of the same changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import os
import shlex
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.contenders import Contender, Peer, SkippedError, read_through
from benchmarks.processes import TOKEN_NAME
from benchmarks.rows import Bench, Measure, Row, Sample

_BAR_OF_SAVES = 4
_BAR_OF_CHANGES = 500.0  # microseconds
_PROGRAMS = 8
_BAR_OF_PROGRAMS = 1 / 3
_MAPPED_FACTOR = 4  # 1 GB, beside arrays of 256 MB
_UPDATE = ("--mode", "r+")

_PASSED_ON_BY = "Python, mfusepy"

_H5PY, _EXT4 = "h5py, a flush for each", "a real folder"


def change_through_mount(
    bench: Bench, contender: Contender, *, kind: str, programs: int = 1
) -> Sample:
    """Make changes one by one through a fresh mount; microseconds each."""
    with _copied(bench.files.bare()) as file:
        with contender.mount(file, words=_UPDATE) as mount:
            took = _change_files(bench, kind, mount.path, programs)
        return Sample(took.value, describe_content(file))


def save_alone(bench: Bench, contender: Contender) -> Sample:
    """One program's saves, to compare those of several with: these make more files."""
    return Sample(change_through_mount(bench, contender, kind="save").value)


def change_folder(bench: Bench, _: Contender, *, kind: str, programs: int = 1) -> Sample:
    """Make the same changes to a real folder."""
    with _copied(bench.files.bare_npy()) as folder:
        return Sample(_change_files(bench, kind, folder, programs).value)


def change_with_h5py(bench: Bench, _: Contender, *, kind: str) -> Sample:
    """Make the same changes with h5py."""
    count = bench.files.single_changes
    with _copied(bench.files.bare()) as file:
        took = bench.probe("change_with_h5py", kind=kind, file=str(file), count=count)
        return Sample(took.each_of(count).value, describe_content(file))


def change_passed_on(bench: Bench, _: Contender, *, kind: str) -> Sample:
    """Make the same changes to a real folder through a program that only passes them on."""
    if importlib.util.find_spec("mfusepy") is None:
        raise SkippedError("mfusepy is not installed")
    program = shlex.join([sys.executable, str(Path(__file__).with_name("passing_on.py"))])
    passing_on = Peer(
        _PASSED_ON_BY, f"{program} {{file}} {{mountpoint}}", "{dataset}.npy", os.environ[TOKEN_NAME]
    )
    with _copied(bench.files.bare_npy()) as folder, passing_on.mount(folder) as mount:
        return Sample(_change_files(bench, kind, mount.path, 1).value)


def _change_files(bench: Bench, kind: str, folder: Path, programs: int) -> Sample:
    count = bench.files.single_changes
    arguments = {"kind": kind, "folder": str(folder), "count": count}
    probes = [("change_files", {**arguments, "program": each}) for each in range(programs)]
    return bench.probe_together(probes).each_of(count * programs)


def write_tree_through_mount(bench: Bench, contender: Contender, *, program: str) -> Sample:
    """Copy a folder of small arrays with attributes into a fresh mount."""
    with _empty_file() as file:
        with contender.mount(file, words=_UPDATE) as mount:
            took = _write_tree(bench, program, mount.path)
        return Sample(took.value, describe_content(file))


def write_tree_to_folder(bench: Bench, _: Contender, *, program: str) -> Sample:
    """Copy the same folder to a real one."""
    with tempfile.TemporaryDirectory(prefix="changed-") as folder:
        return Sample(_write_tree(bench, program, Path(folder)).value)


def write_tree_with_h5py(bench: Bench, _: Contender) -> Sample:
    """Make the same datasets of arrays that are in memory."""
    with _empty_file() as file:
        took = bench.probe("write_tree_with_h5py", file=str(file), count=bench.files.changes)
        return Sample(took.value, describe_content(file))


def _write_tree(bench: Bench, program: str, folder: Path) -> Sample:
    source = bench.files.tree_tar() if program == "tar" else bench.files.tree_npy()
    read_through(source)
    return bench.probe(
        "write_tree", program=program, source=str(source), target=str(folder / "tree")
    )


def remove_tree_from_mount(bench: Bench, contender: Contender) -> Sample:
    """``rm -r`` of a folder of small arrays with attributes in a fresh mount."""
    with _copied(bench.files.tree()) as file:
        with contender.mount(file, words=_UPDATE) as mount:
            took = bench.probe("remove_tree", folder=str(mount.path / "tree"))
        return Sample(took.value, describe_content(file))


def remove_real_tree(bench: Bench, _: Contender) -> Sample:
    """``rm -r`` of a real folder of the same."""
    with _copied(bench.files.tree_npy()) as folder:
        return Sample(bench.probe("remove_tree", folder=str(folder)).value)


def remove_tree_with_h5py(bench: Bench, _: Contender) -> Sample:
    """Delete the same datasets one by one."""
    with _copied(bench.files.tree()) as file:
        took = bench.probe("remove_tree_with_h5py", file=str(file), count=bench.files.changes)
        return Sample(took.value, describe_content(file))


def map_through_mount(bench: Bench, contender: Contender) -> Sample:
    """``open_memmap`` in a fresh mount, written to its end, and ``flush``."""
    with _empty_file() as file:
        with contender.mount(file, words=_UPDATE) as mount:
            took = _map_and_write(bench, mount.find("data"))
        return Sample(took.value, describe_content(file))


def map_real_file(bench: Bench, _: Contender) -> Sample:
    """The same of a real file."""
    with tempfile.TemporaryDirectory(prefix="changed-") as folder:
        return Sample(_map_and_write(bench, f"{folder}/data.npy").value)


def write_large_with_h5py(bench: Bench, _: Contender) -> Sample:
    """The same array, flushed to the disk."""
    with _empty_file() as file:
        took = bench.probe(
            "write_with_h5py", source=str(bench.files.npy()), file=str(file), times=_MAPPED_FACTOR
        )
        return Sample(took.value, describe_content(file))


def _map_and_write(bench: Bench, target: str) -> Sample:
    source = str(bench.files.npy())
    return bench.probe("map_and_write", source=source, target=target, times=_MAPPED_FACTOR)


def describe_content(file: str | Path) -> list[Any]:
    """Return what differs when names, data or attributes of an HDF5 file do."""
    found: list[Any] = []

    def note(name: str, each: Any) -> None:
        data = each[()] if isinstance(each, h5py.Dataset) else np.zeros(0)
        attributes = sorted((key, str(value)) for key, value in each.attrs.items())
        found.append((name, data.shape, zlib.crc32(data.tobytes()), attributes))

    with h5py.File(file) as opened:
        opened.visititems(note)
    return [len(found), zlib.crc32(repr(sorted(found)).encode())]


@contextlib.contextmanager
def _copied(original: Path) -> Iterator[Path]:
    """Yield a copy of a file or folder that may be changed."""
    with tempfile.TemporaryDirectory(prefix="changed-") as folder:
        copy = Path(folder, original.name)
        if original.is_dir():
            shutil.copytree(original, copy)
        else:
            shutil.copyfile(original, copy)
        yield copy


@contextlib.contextmanager
def _empty_file() -> Iterator[Path]:
    """Yield an HDF5 file with nothing in it."""
    with tempfile.TemporaryDirectory(prefix="changed-") as folder:
        file = Path(folder, "new.h5")
        h5py.File(file, "w").close()
        yield file


def _with_ext4(row: Row, compare: Measure) -> tuple[Row, Row]:
    """Return a row, and the same against a real folder, for which there is no bar."""
    beside = dataclasses.replace(
        row, key=f"{row.key}-ext4", against=_EXT4, compare=compare, floor=None, bar=None,
        is_absolute=False,
    )  # fmt: skip
    return row, beside


def _single(kind: str, title: str, bar: float, *, is_absolute: bool) -> tuple[Row, Row]:
    row = Row(
        key=f"31-{kind}",
        title=f"mode r+: {title}",
        against=_H5PY,
        measure=functools.partial(change_through_mount, kind=kind),
        compare=functools.partial(change_with_h5py, kind=kind),
        floor=functools.partial(change_passed_on, kind=kind),
        passed_on_by=_PASSED_ON_BY,
        bar=bar,
        is_absolute=is_absolute,
        unit="us",
        h5fs_only=True,
        method="each of as many as a tenth of --changes, a fresh mount for each run; nobody waits "
        "for the disk",
    )
    return _with_ext4(row, functools.partial(change_folder, kind=kind))


def _tree(key: str, title: str, measure: Measure, compare: Measure, ext4: Measure) -> Any:
    row = Row(
        key=f"32-{key}",
        title=f"mode r+: {title} of many small arrays with attributes",
        against=_H5PY,
        measure=measure,
        compare=compare,
        h5fs_only=True,
        is_slow=True,
        method="as many as --changes, a fresh mount for each run; h5py has the arrays in memory; "
        "nobody waits for the disk",
    )
    return _with_ext4(row, ext4)


_TOGETHER = Row(
    key="33-one",
    title=f"mode r+: np.save of 100 numbers, {_PROGRAMS} programs at once, each file",
    against="one program",
    measure=functools.partial(change_through_mount, kind="save", programs=_PROGRAMS),
    compare=save_alone,
    bar=_BAR_OF_PROGRAMS,
    unit="us",
    h5fs_only=True,
    method="the time of all over the number of files; each program saves a tenth of --changes",
)
_APPEND = Row(
    key="34",
    title="mode r+: open a .npy, append 100 rows, close",
    against="h5py, resize, write and flush",
    measure=functools.partial(change_through_mount, kind="append"),
    compare=functools.partial(change_with_h5py, kind="append"),
    unit="us",
    h5fs_only=True,
    method="a dataset in chunks of 1024 rows of 8 numbers that may grow; its header is rewritten "
    "in place; each of as many as a tenth of --changes",
)
_MAP = Row(
    key="35",
    title=f"mode r+: open_memmap of {_MAPPED_FACTOR} times --size, write, flush",
    against="h5py, write, flush and fsync",
    measure=map_through_mount,
    compare=write_large_with_h5py,
    h5fs_only=True,
    method="1 GB if --size is not given; until flush returns: both are on the disk then",
)

CHANGE_ROWS = (
    *_single("save", "np.save of 100 numbers", _BAR_OF_SAVES, is_absolute=False),
    *(
        row
        for kind, title in (
            ("attributes", "an attribute file"), ("mkdir", "mkdir"), ("rename", "rename"),
            ("unlink", "unlink"), ("page", "pwrite of 4 KiB, a page of the file"),
            ("pwrite", "pwrite of 4 KiB across two pages"),
        )
        for row in _single(kind, title, _BAR_OF_CHANGES, is_absolute=True)
    ),
    *(
        row
        for program, words in (("cp", "cp -r"), ("tar", "tar x"), ("rsync", "rsync -a"))
        for row in _tree(
            program,
            f"`{words}`",
            functools.partial(write_tree_through_mount, program=program),
            write_tree_with_h5py,
            functools.partial(write_tree_to_folder, program=program),
        )
    ),
    *_tree("rm", "`rm -r`", remove_tree_from_mount, remove_tree_with_h5py, remove_real_tree),
    _TOGETHER,
    dataclasses.replace(
        _TOGETHER,
        key="33-ext4",
        against=_EXT4,
        compare=functools.partial(change_folder, kind="save", programs=_PROGRAMS),
        bar=None,
    ),
    *_with_ext4(_APPEND, functools.partial(change_folder, kind="append")),
    *_with_ext4(_MAP, map_real_file),
)  # fmt: skip

"""Rows of commands that need no mount: ``h5fs cp`` beside a mount with ``cp -r``, ``h5fs tree``."""

from __future__ import annotations

import functools
import sys
import tempfile

from benchmarks.change_rows import describe_content
from benchmarks.contenders import Contender, read_through
from benchmarks.files import Files
from benchmarks.reading_rows import ChooseFile
from benchmarks.rows import Bench, Row, Sample


def copy_out(bench: Bench, _: Contender, *, file: ChooseFile, by_mount: bool) -> Sample:
    """Copy all of an HDF5 file to memory."""
    path = file(bench.files)
    read_through(path)
    return bench.probe("copy_out", file=str(path), by_mount=by_mount)


def copy_from_mount(bench: Bench, contender: Contender, *, file: ChooseFile) -> Sample:
    """``cp -r`` through a fresh mount that is there."""
    with contender.mount(file(bench.files)) as mount:
        return bench.probe("copy_tree", program="cp", folder=str(mount.path))


def copy_in(bench: Bench, _: Contender, *, by_mount: bool) -> Sample:
    """Copy a folder of small arrays with attributes to a new HDF5 file."""
    source = bench.files.tree_npy()
    read_through(source)
    with tempfile.TemporaryDirectory(prefix="copied-") as folder:
        file = f"{folder}/new.h5"
        took = bench.probe("copy_in", source=str(source), file=file, by_mount=by_mount)
        return Sample(took.value, describe_content(file))


def show_tree(bench: Bench, _: Contender) -> Sample:
    """Print the tree of a file of four datasets."""
    words = [sys.executable, "-m", "h5fs", "tree", str(bench.files.four())]
    return Sample(bench.probe("command", words=words).value)


def import_h5py(bench: Bench, _: Contender) -> Sample:
    """What every program that reads HDF5 files in Python does first."""
    return Sample(bench.probe("command", words=[sys.executable, "-c", "import h5py"]).value)


_METHOD = "both as commands, from start to end; the copy goes to memory"
_FILES: tuple[tuple[str, str, ChooseFile], ...] = (
    ("small", "many small datasets with attributes", Files.small),
    ("gzip", "one gzip dataset", lambda files: files.filtered("gzip")),
)

COMMAND_ROWS = (
    *(
        Row(
            key=f"36-{key}",
            title=f"h5fs cp FILE:/ FOLDER: {title}",
            against="mount and cp -r",
            measure=functools.partial(copy_out, file=file, by_mount=False),
            compare=functools.partial(copy_out, file=file, by_mount=True),
            bar=1,
            h5fs_only=True,
            method=_METHOD,
        )
        for key, title, file in _FILES
    ),
    *(
        Row(
            key=f"36-{key}-mounted",
            title=f"h5fs cp FILE:/ FOLDER: {title}",
            against="cp -r, mounted before",
            measure=functools.partial(copy_out, file=file, by_mount=False),
            compare=functools.partial(copy_from_mount, file=file),
            h5fs_only=True,
            method="the command, from start to end; the copy goes to memory",
        )
        for key, title, file in _FILES
    ),
    Row(
        key="36-in",
        title="h5fs cp FOLDER FILE:/, many small arrays with attributes",
        against="mount and cp -r",
        measure=functools.partial(copy_in, by_mount=False),
        compare=functools.partial(copy_in, by_mount=True),
        bar=1,
        h5fs_only=True,
        is_slow=True,
        method="as many as --changes; both as commands, from start to end, to a new HDF5 file",
    ),
    Row(
        key="37",
        title="h5fs tree of a file of four datasets",
        against="python -c 'import h5py'",
        measure=show_tree,
        compare=import_h5py,
        bar=1.5,
        h5fs_only=True,
        method="both as commands, from start to end",
    ),
)

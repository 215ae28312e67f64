"""Rows that read whole arrays of what is rarer: text, virtual datasets, other filters."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from benchmarks.contenders import Contender, read_through
from benchmarks.files import Files
from benchmarks.reading_rows import load_through_bindfs, load_through_mount
from benchmarks.rows import Bench, Row, Sample

ChooseFile = Callable[[Files], Path]


def load_with_h5py(bench: Bench, _: Contender, *, file: ChooseFile, as_text: bool) -> Sample:
    """Open the file with h5py and read the dataset."""
    path = file(bench.files)
    read_through(path)
    return bench.probe("h5py_load", file=str(path), dataset="data", as_text=as_text)


def _row(key: str, title: str, file: ChooseFile, bar: float, *, as_text: bool = False) -> Row:
    return Row(
        key=f"21-{key}",
        title=title,
        against="h5py ds.asstr()[...]" if as_text else "h5py ds[...]",
        measure=functools.partial(load_through_mount, file=file),
        compare=functools.partial(load_with_h5py, file=file, as_text=as_text),
        bar=bar,
        method="np.load through a fresh mount; h5py: File() and the dataset, both timed; the HDF5 "
        "file in the page cache",
    )


_VIRTUAL = _row("virtual", "a virtual dataset of 100 files", Files.virtual, 1)

TYPE_ROWS = (
    _row("strings", "a million strings of variable length", Files.strings, 0.7, as_text=True),
    _row("compound", "200,000 compounds with such a string", Files.compounds, 1),
    # Nothing is computed of these bytes: what FUSE takes to carry as many is most of it.
    dataclasses.replace(_VIRTUAL, floor=load_through_bindfs),
    _row("scaleoffset", "scale-offset", lambda files: files.filtered("scaleoffset"), 1),
    _row("szip", "szip", lambda files: files.filtered("szip"), 1),
)

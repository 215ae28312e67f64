"""The files that the rows read, made when first needed and kept in one folder.

The data are random walks, such as an instrument's slowly changing signal: gzip with shuffle makes
them 3.4 to 3.7 times smaller. Sizes are in MB of 10^6 bytes.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt

STEP = 20
SIDE_MULTIPLE = 500  # so that tiles of 500 fit
SMALLEST_SIDE = 1500
CHUNK_BYTES = 2**20
BIG_FACTOR = 8000 / 256  # the dataset for the memory row, against the others
DIFFERENT_CHUNKS = 64
ATTRIBUTES_OF_EACH = 3
ATTRIBUTES: Mapping[str, Any] = {"units": "mV", "rate": 1000.5, "channel": 3}
SINGLE_CHANGES_SHARE = 10
PAGE_ELEMENTS = 1024  # of four bytes: 4 KiB
ROWS_OF_EACH = 100  # that are appended at once
ROW_ELEMENTS = 8
STRINGS = 1_000_000
COMPOUNDS = 200_000
SOURCES = 100
NUMBERS = 10_000_000
STACK = (36, 2048, 2048)
SEED = 20260314

_GZIP: Mapping[str, Any] = {"compression": "gzip", "shuffle": True}
FILTERS: Mapping[str, Mapping[str, Any]] = {
    "gzip": _GZIP,
    "lzf": {"compression": "lzf", "shuffle": True},
    "blosc": {"compression": hdf5plugin.Blosc()},
    "zstd": {"compression": hdf5plugin.Zstd(), "shuffle": True},
    "lz4": {"compression": hdf5plugin.LZ4(), "shuffle": True},
    "scaleoffset": {"scaleoffset": 0},
    "szip": {"compression": "szip"},
}


@dataclass(frozen=True)
class Files:
    """Makes files in a folder. ``size_mb`` of each array; ``objects`` in each large group.

    ``small_objects``: datasets with attributes, in a group that is walked. ``changes``: datasets
    with attributes that are written or removed.
    """

    folder: Path
    size_mb: float
    objects: int
    small_objects: int
    changes: int

    @property
    def single_changes(self) -> int:
        """How often a change is made that is measured by itself."""
        return max(1, self.changes // SINGLE_CHANGES_SHARE)

    @property
    def side(self) -> int:
        """Rows, and columns, of each array."""
        side = math.isqrt(int(self.size_mb * 250_000)) // SIDE_MULTIPLE * SIDE_MULTIPLE
        return max(side, SMALLEST_SIDE)

    def plain(self) -> Path:
        """One contiguous dataset."""
        return self._make(f"contiguous-{self.side}.h5", lambda path: self._write(path, {}))

    def npy(self) -> Path:
        """The same array as numpy saves it."""
        return self._make(f"contiguous-{self.side}.npy", self._write_npy)

    def npy_folder(self) -> Path:
        """A folder with that file as ``data.npy``."""
        return self._make(f"npy-{self.side}", self._link_npy)

    def four_npy(self) -> Path:
        """A folder with the arrays of ``four`` as numpy saves them."""
        return self._make(f"four-npy-{self.side}", self._write_four_npy)

    def filtered(self, name: str) -> Path:
        """One dataset in chunks of about 1 MiB, whole rows, behind a filter of ``FILTERS``."""
        chunks = (self._chunk_rows, self.side)
        layout = {"chunks": chunks, **FILTERS[name]}
        return self._make(f"{name}-{self.side}.h5", lambda path: self._write(path, layout))

    def tiles(self) -> Path:
        """Shuffle and gzip in chunks of 500 x 500."""
        layout = {"chunks": (500, 500), **_GZIP}
        return self._make(f"tiles-{self.side}.h5", lambda path: self._write(path, layout))

    def columns(self) -> Path:
        """Shuffle and gzip in chunks of 50 columns, all rows."""
        layout = {"chunks": (self.side, 50), **_GZIP}
        return self._make(f"columns-{self.side}.h5", lambda path: self._write(path, layout))

    def four(self) -> Path:
        """Four different gzip datasets, ``data0`` to ``data3``, each a fourth of the size."""
        return self._make(f"four-{self.side}.h5", self._write_four)

    def many(self, factor: int = 1) -> Path:
        """A group ``many`` of small datasets, ``factor`` times the usual number."""
        count = self.objects * factor
        return self._make(f"many-{count}.h5", lambda path: _write_many(path, count))

    def many_npy(self) -> Path:
        """A folder with the same datasets as ``.npy`` files."""
        return self._make(f"many-{self.objects}", self._write_many_npy)

    def small(self) -> Path:
        """A group ``small`` of datasets of 800 bytes with attributes, every other one gzip."""
        count = self.small_objects
        return self._make(f"small-{count}.h5", lambda path: _write_small(path, count))

    def bare(self) -> Path:
        """A group ``bare`` of small datasets without attributes, and datasets to write into."""
        count = self.single_changes
        return self._make(f"bare-{count}.h5", lambda path: _write_bare(path, count))

    def bare_npy(self) -> Path:
        """A folder with the same as ``.npy`` files."""
        return self._make(f"bare-{self.single_changes}", self._write_bare_npy)

    def tree(self) -> Path:
        """A group ``tree`` of small datasets with attributes."""
        return self._make(f"tree-{self.changes}.h5", self._write_tree)

    def tree_npy(self) -> Path:
        """A folder with the same as ``.npy`` and ``.attrs.json`` files."""
        return self._make(f"tree-{self.changes}", self._write_tree_npy)

    def tree_tar(self) -> Path:
        """An archive of that folder's content."""
        return self._make(f"tree-{self.changes}.tar", self._write_tree_tar)

    def strings(self) -> Path:
        """A million strings of variable length, of 5 to 24 characters."""
        return self._make(f"strings-{STRINGS}.h5", _write_strings)

    def compounds(self) -> Path:
        """Compounds of two numbers and a string of variable length."""
        return self._make(f"compounds-{COMPOUNDS}.h5", _write_compounds)

    def numbers(self) -> Path:
        """Ten million float64 in chunks of 512 KiB."""
        return self._make(f"numbers-{NUMBERS}.h5", _write_numbers)

    def stack(self) -> Path:
        """A stack of planes of 12-bit camera counts, shuffle and gzip, a plane in 16 chunks."""
        return self._make("stack.h5", _write_stack)

    def virtual(self) -> Path:
        """A virtual dataset of as many files as it has sources, beside it."""
        return self._make(f"virtual-{self.side}.h5", self._write_virtual)

    def big(self) -> Path:
        """One gzip dataset far larger than the cache (8 GB beside arrays of 256 MB)."""
        return self._make(f"big-{self.side}.h5", self._write_big)

    def _make(self, name: str, write: Callable[[Path], None]) -> Path:
        """Return the file; write it first, beside its place, when it is not there."""
        path = self.folder / name
        if not path.exists():
            print(f"bench: writing {path}", file=sys.stderr)
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            write(part)
            part.rename(path)
        return path

    @property
    def _chunk_rows(self) -> int:
        return max(1, CHUNK_BYTES // (4 * self.side))

    def _write(self, path: Path, layout: Mapping[str, Any]) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=make_walks(self.side, self.side), **layout)

    def _write_npy(self, path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, make_walks(self.side, self.side))

    def _link_npy(self, path: Path) -> None:
        path.mkdir()
        os.link(self.npy(), path / "data.npy")

    def _write_four_npy(self, path: Path) -> None:
        path.mkdir()
        for number in range(4):
            np.save(path / f"data{number}.npy", self._fourth(number))

    def _fourth(self, number: int) -> npt.NDArray[np.int32]:
        return make_walks(self.side // 4, self.side, seed=SEED + number)

    def _write_four(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            for number in range(4):
                data = self._fourth(number)
                chunks = (min(self._chunk_rows, len(data)), self.side)
                file.create_dataset(f"data{number}", data=data, chunks=chunks, **_GZIP)

    def _write_many_npy(self, path: Path) -> None:
        path.mkdir()
        for number in range(self.objects):
            np.save(path / f"{small_name(number)}.npy", make_small(number))

    def _write_bare_npy(self, path: Path) -> None:
        (path / "bare").mkdir(parents=True)
        with h5py.File(self.bare()) as file:
            for name in ("pages", "rows", *(f"bare/{name}" for name in file["bare"])):
                np.save(path / f"{name}.npy", file[name][()])

    def _write_tree(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            group = file.create_group("tree")
            for number in range(self.changes):
                dataset = group.create_dataset(small_name(number), data=make_numbers(number))
                dataset.attrs.update(ATTRIBUTES)

    def _write_tree_npy(self, path: Path) -> None:
        path.mkdir()
        for number in range(self.changes):
            np.save(path / f"{small_name(number)}.npy", make_numbers(number))
            (path / f"{small_name(number)}.attrs.json").write_text(json.dumps(ATTRIBUTES))

    def _write_tree_tar(self, path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            archive.add(self.tree_npy(), ".")

    def _write_virtual(self, path: Path) -> None:
        rows = self.side // SOURCES
        layout = h5py.VirtualLayout((rows * SOURCES, self.side), "<i4")
        for number in range(SOURCES):
            source = self.folder / f"source-{self.side}-{number:03d}.h5"
            with h5py.File(source, "w") as file:
                file.create_dataset("data", data=make_walks(rows, self.side, seed=SEED + number))
            part = h5py.VirtualSource(source.name, "data", (rows, self.side))
            layout[number * rows : (number + 1) * rows] = part
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("data", layout)

    def _write_big(self, path: Path) -> None:
        rows = self._chunk_rows
        chunk_count = int(self.side * BIG_FACTOR) // rows
        pool = _compress_chunks(rows, self.side, min(chunk_count, DIFFERENT_CHUNKS))
        with h5py.File(path, "w") as file:
            data = file.create_dataset(
                "data", (chunk_count * rows, self.side), "<i4", chunks=(rows, self.side), **_GZIP
            )
            for number in range(chunk_count):
                data.id.write_direct_chunk((number * rows, 0), pool[number % len(pool)])


def make_walks(rows: int, columns: int, *, seed: int = SEED) -> npt.NDArray[np.int32]:
    """Return random walks, one in each row."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-STEP, STEP + 1, (rows, columns), dtype="<i4")
    return np.cumsum(steps, axis=1, dtype="<i4", out=steps)


def small_name(number: int) -> str:
    """Return the name of a dataset in the large group."""
    return f"sample-{number:07d}"


SMALL_NAMES = "sample-{:07d}.npy"


def make_small(number: int) -> npt.NDArray[np.int32]:
    """Return the data of a dataset in the large group."""
    return np.arange(number, number + 16, dtype="<i4")


def make_numbers(number: int) -> npt.NDArray[np.float64]:
    """Return a hundred numbers, the data of a dataset that is written or removed."""
    return np.arange(number, number + 100, dtype="<f8")


def _write_bare(path: Path, count: int) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("bare")
        for number in range(count):
            group[small_name(number)] = make_numbers(number)
        # One more, since pages of the mounted file begin within a row: behind its header.
        file["pages"] = np.zeros((count + 1, PAGE_ELEMENTS), "<i4")
        chunks, most = (1024, ROW_ELEMENTS), (None, ROW_ELEMENTS)
        file.create_dataset("rows", (0, ROW_ELEMENTS), "<f8", chunks=chunks, maxshape=most)


def _write_many(path: Path, count: int) -> None:
    """Through h5py's low level, with the settings that ``create_dataset`` has."""
    with h5py.File(path, "w") as file:
        group = file.create_group("many").id
        space = h5py.h5s.create_simple((16,))
        for number in range(count):
            data = h5py.h5d.create(group, small_name(number).encode(), h5py.h5t.STD_I32LE, space)
            data.write(h5py.h5s.ALL, h5py.h5s.ALL, make_small(number))


def _write_strings(path: Path) -> None:
    with h5py.File(path, "w") as file:
        text = h5py.string_dtype()
        data = file.create_dataset("data", (STRINGS,), text, chunks=(10_000,))
        for start in range(0, STRINGS, 100_000):
            numbers = range(start, start + 100_000)
            data[start : start + 100_000] = [f"text {n} " + "x" * (n % 13) for n in numbers]


def _write_compounds(path: Path) -> None:
    dtype = np.dtype([("id", "<i8"), ("value", "<f8"), ("name", h5py.string_dtype())])
    data = np.zeros(COMPOUNDS, dtype)
    data["id"] = np.arange(COMPOUNDS)
    data["name"] = [f"row {number}" for number in range(COMPOUNDS)]
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=data, chunks=(10_000,))


def _write_numbers(path: Path) -> None:
    data = np.random.default_rng(SEED).normal(size=NUMBERS)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=data, chunks=(2**16,))


def _write_stack(path: Path) -> None:
    rng = np.random.default_rng(SEED)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", STACK, "<u2", chunks=(1, 512, 512), **_GZIP)
        for number in range(STACK[0]):
            data[number] = rng.poisson(200 + 10 * number, STACK[1:])


def _write_small(path: Path, count: int) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("small")
        for number in range(count):
            layout = {"compression": "gzip"} if number % 2 else {}
            data = np.arange(number, number + 100, dtype="<f8")
            dataset = group.create_dataset(small_name(number), data=data, **layout)
            dataset.attrs["units"] = "mV"
            dataset.attrs["rate"] = 1000.0 + number
            dataset.attrs["channel"] = np.arange(3) + number


def _compress_chunks(rows: int, columns: int, count: int) -> list[bytes]:
    """Return different chunks as HDF5 stores them."""
    chunks = []
    with h5py.File("chunks", "w", driver="core", backing_store=False) as file:
        for number in range(count):
            data = make_walks(rows, columns, seed=SEED + number)
            stored = file.create_dataset(f"{number}", data=data, chunks=data.shape, **_GZIP)
            chunks.append(stored.id.read_direct_chunk((0, 0))[1])
    return chunks

"""Chunks that are changed in part: what is kept of them is what the file has, or it is an error."""

from __future__ import annotations

import io
import os
import tempfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t, h5z
from support.reference import npy_bytes
from support.trees import read, save, store_of, writable_tree

from h5fs.errors import UnreadableError, UnsupportedTypeError
from h5fs.store.interface import ArrayFile
from h5fs.tree import WritableTree

_HEADER_BYTES = 128


def write_at(tree: WritableTree, path: bytes, data: bytes, offset: int) -> None:
    handle = tree.open(path, os.O_RDWR, 1)
    try:
        tree.write(handle, memoryview(data), _HEADER_BYTES + offset)
        tree.flush(handle, 1)
    finally:
        tree.release(handle)


@pytest.mark.semantics("D13", "R6")
def test_a_part_of_a_chunk_that_is_too_short_cannot_be_written(tmp_path: Path) -> None:
    # Rows of 100 in chunks of 4 x 40: those at the right stick out of the array.
    data = (np.arange(10_000) % 251).astype("u1").reshape(100, 100)
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        dataset = opened.create_dataset(
            "d", data=data, chunks=(4, 40), maxshape=(None, 100), compression="gzip"
        )
        dataset.id.write_direct_chunk((60, 40), zlib.compress(bytes(50)))
        edge = opened.create_dataset("edge", data=data[0], chunks=(64,), compression="gzip")
        edge.id.write_direct_chunk((64,), zlib.compress(data[0, 64:].tobytes()))
        stored = dataset.id.read_direct_chunk((60, 40))
    damaged = pytest.raises(UnreadableError, match=r"/d: chunk \(60, 40\)")
    with writable_tree(file) as tree:
        for row, column, size in ((60, 50, 1), (59, 0, 300), (63, 79, 200)):
            with damaged:
                write_at(tree, b"/d.npy", bytes(size), 100 * row + column)
        store = store_of(tree)
        target = store.get_link(store.root().ref, b"d").target
        assert target is not None
        with damaged, tempfile.TemporaryFile() as new:  # the last rows go, with half of a chunk
            new.truncate(6328)
            array = ArrayFile(new.fileno(), 6328, (62, 100), data.dtype, False, _HEADER_BYTES)
            store.change_array(target.ref, array, ())
        for offset, size in ((6000, 40), (6090, 10), (6400, 100)):  # in the chunks beside it
            write_at(tree, b"/d.npy", bytes(size), offset)
        write_at(tree, b"/edge.npy", b"new", 97)  # short, but for nothing that is in the array
    with h5py.File(file) as opened:
        assert opened["d"].shape == (100, 100)
        assert opened["d"].id.read_direct_chunk((60, 40)) == stored
        left = data.copy()
        left[60, :40] = left[60, 90:] = left[64] = 0
        left[60:64, 40:80] = 0
        found = opened["d"][()]
        found[60:64, 40:80] = 0  # what the library makes up
        assert (found == left).all()
        assert opened["edge"][()].tobytes() == data[0, :97].tobytes() + b"new"
    with writable_tree(file) as tree:  # all of the chunk is written: nothing of it is kept
        write_at(tree, b"/d.npy", data[60:64].tobytes(), 6000)
        left[60:64] = data[60:64]
        assert read(tree, b"/d.npy") == npy_bytes(left)


@pytest.mark.semantics("D1", "R6")
@pytest.mark.parametrize("names", ["shuffle nbit deflate", "fletcher32 nbit deflate",
                                   "shuffle nbit fletcher32", "nbit deflate"])  # fmt: skip
def test_elements_behind_an_nbit_that_does_nothing_are_what_was_written(
    tmp_path: Path, names: str
) -> None:
    data = np.arange(192, dtype="<i4")
    add = {
        "shuffle": h5p.PropDCID.set_shuffle,
        "fletcher32": h5p.PropDCID.set_fletcher32,
        "nbit": lambda creation: creation.set_filter(h5z.FILTER_NBIT),
        "deflate": h5p.PropDCID.set_deflate,
    }
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_chunk((64,))
        for name in names.split():
            add[name](creation)
        space = h5s.create_simple((192,))
        dataset = h5d.create(opened.id, b"d", h5t.STD_I32LE, space, creation)
        dataset.write(h5s.ALL, h5s.ALL, data)
    with writable_tree(tmp_path / "f.h5") as tree:
        assert read(tree, b"/d.npy") == npy_bytes(data)
        if names != "nbit deflate":
            with pytest.raises(UnsupportedTypeError, match="whole array"):
                write_at(tree, b"/d.npy", bytes(8), 8)
            save(tree, b"/d.npy", npy_bytes(data[::-1]))
        else:
            write_at(tree, b"/d.npy", data[::-1].tobytes()[4:], 4)
            data[-1] = 191
        found = np.load(io.BytesIO(read(tree, b"/d.npy")))
        assert (found[1:] == data[::-1][1:]).all()

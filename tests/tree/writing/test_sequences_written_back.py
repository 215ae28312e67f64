"""Datasets of sequences that are written back: what both files show, and other values."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5o, h5s, h5t
from support.reference import npy_bytes
from support.trees import read, save, writable_tree

from h5fs.store.hdf5.types.library_calls import write_elements
from h5fs.tree.writing.writable_tree import WritableTree

pytestmark = pytest.mark.semantics("R12")

KINDS = ("square", "scalar", "nested", "nothing", "texts", "of arrays")
_HVL = np.dtype([("length", np.uintp), ("pointer", np.uintp)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        numbers = h5py.vlen_dtype("<i2")
        square = opened.create_dataset("square", (2, 2), numbers, maxshape=(None, 2), chunks=(1, 2))
        square[0, 0], square[1, 1] = [1, 2], [3]
        opened.create_dataset("scalar", (), numbers)[()] = np.array([1, 2, 3])
        texts = opened.create_dataset("texts", (2,), h5py.vlen_dtype(h5py.string_dtype()))
        texts[0] = np.array(["a", "bcd"], object)
        for name, values in (("nested", [[1, 2, 3], [4]]), ("nothing", [[], []])):
            inner = h5t.vlen_create(h5t.STD_I32LE)
            outer = h5t.vlen_create(inner)
            made = h5d.create(opened.id, name.encode(), outer, h5s.create_simple((2,)))
            _write_nested(made, outer, values)
        of_arrays = h5t.vlen_create(h5t.array_create(h5t.STD_I16LE, (2,)))
        h5d.create(opened.id, b"of arrays", of_arrays, h5s.create_simple((2, 1)))
        for name in KINDS:
            opened[name].attrs["kept"] = 1
    return file


def _write_nested(dataset_id: h5d.DatasetID, outer: h5t.TypeID, values: list[list[int]]) -> None:
    """Let the first element be the sequence of these sequences, which h5py cannot write."""
    arrays = [np.array(each, "<i4") for each in values]
    inner = np.array([(len(each), each.ctypes.data) for each in arrays], _HVL)
    elements = np.array([(len(inner), inner.ctypes.data), (0, 0)], _HVL)
    write_elements(dataset_id, outer, dataset_id.get_space(), elements.ctypes.data)


def what_is_there(file: Path, name: str) -> tuple[object, ...]:
    with h5py.File(file) as opened:
        dataset = opened[name]
        made_of = dataset.id.get_type().encode()
        address = h5o.get_info(dataset.id).addr
        return dataset.shape, dataset.maxshape, dataset.chunks, made_of, address, *dataset.attrs


def write(tree: WritableTree, way: str, path: bytes, data: bytes) -> None:
    if way == "rename":
        save(tree, b"/.new", data)
        tree.rename(b"/.new", path, 0)
    else:
        save(tree, path, data)


@pytest.mark.parametrize("way", ["save", "rename", "one of them"])
@pytest.mark.parametrize("name", KINDS)
def test_what_both_files_show_written_back_changes_nothing(file: Path, name: str, way: str) -> None:
    before = what_is_there(file, name)
    paths = [f"/{name}.{part}.npy".encode() for part in ("values", "offsets")]
    with writable_tree(file) as tree:
        shown = [read(tree, path) for path in paths]
        for path, data in zip(paths, shown, strict=True):
            if way != "one of them" or path == paths[0]:
                write(tree, way, path, data)
        assert [read(tree, path) for path in paths] == shown
    assert what_is_there(file, name) == before
    with writable_tree(file) as tree:
        assert [read(tree, path) for path in paths] == shown


@pytest.mark.parametrize("name", ["square", "scalar"])
def test_a_dataset_that_gets_as_many_sequences_keeps_its_shape(file: Path, name: str) -> None:
    shape, maxshape, chunks, *_ = what_is_there(file, name)
    count = 4 if name == "square" else 1
    with writable_tree(file) as tree:
        values = npy_bytes(np.array([7, 8, 9], "<i2"))
        save(tree, f"/{name}.values.npy".encode(), values)
        assert read(tree, f"/{name}.values.npy".encode()) == values
    with h5py.File(file) as opened:
        assert np.ravel(opened[name][()])[0 if count == 4 else ...].size
        assert (opened[name].shape, opened[name].maxshape) == (shape, maxshape)
    with writable_tree(file) as tree:
        offsets = np.array([0, 1, 1, 2, 5][: count + 1])
        offsets[-1] = 5
        save(tree, f"/{name}.values.npy".encode(), npy_bytes(np.arange(5, dtype="<i2")))
        save(tree, f"/{name}.offsets.npy".encode(), npy_bytes(offsets))
    with h5py.File(file) as opened:
        dataset = opened[name]
        assert (dataset.shape, dataset.maxshape, dataset.chunks) == (shape, maxshape, chunks)
        assert dict(dataset.attrs) == {"kept": 1}
        if name == "square":
            found = [[each.tolist() for each in row] for row in dataset[()]]
            assert found == [[[0], []], [[1], [2, 3, 4]]]
        else:
            assert dataset[()].tolist() == [0, 1, 2, 3, 4]

"""The store of a mode that writes, in this process: what it makes of objects and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5p
from support.reference import npy_bytes
from support.trees import save, store_of, writable_tree
from support.writing import make_file

from h5fs.errors import (
    DatatypeTooLargeError,
    H5fsError,
    InvalidArrayError,
    InvalidAttributesError,
    UnsupportedTypeError,
)
from h5fs.model.settings import Mode
from h5fs.tree import WritableTree

ORDERED = h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED


@contextmanager
def unbroken(tree: WritableTree) -> Iterator[None]:
    """The worker that there is before must be there after."""
    pids = store_of(tree)._pool.worker_pids()
    yield
    assert store_of(tree)._pool.worker_pids() == pids


def orders_of(opened: h5py.Group | h5py.Dataset) -> tuple[int, ...]:
    creation = opened.id.get_create_plist()
    of_attributes = creation.get_attr_creation_order()
    if isinstance(opened, h5py.Dataset):
        return (of_attributes,)
    return of_attributes, creation.get_link_creation_order()


@pytest.mark.semantics("R14")
@pytest.mark.parametrize("order", [0, h5p.CRT_ORDER_TRACKED, ORDERED])
def test_new_objects_keep_orders_of_creation_as_their_group_does(
    tmp_path: Path, order: int
) -> None:
    file = tmp_path / "f.nc"
    creation = h5p.create(h5p.FILE_CREATE)
    creation.set_link_creation_order(order)
    creation.set_attr_creation_order(order)
    h5py.h5f.create(bytes(file), h5py.h5f.ACC_TRUNC, creation).close()
    with writable_tree(file) as tree:
        tree.make_folder(b"/g")
        tree.make_folder(b"/g/h")
        save(tree, b"/d.npy", npy_bytes(np.arange(4)))
        save(tree, b"/g/h/large.npy", npy_bytes(np.zeros(2**18)))  # which is streamed
        save(tree, b"/g/s.values.npy", npy_bytes(np.arange(3)))
        save(tree, b"/g/s.offsets.npy", npy_bytes(np.array([0, 1, 3])))
        save(tree, b"/d.npy", npy_bytes(np.zeros((2, 2))))
        save(tree, b"/d.attrs.json", b'{"z": 1, "a": 2, "m": 3}')
    with h5py.File(file) as opened:
        assert orders_of(opened["/"]) == (order, order)
        for path in ("g", "g/h"):
            assert orders_of(opened[path]) == (order, order), path
        for path in ("d", "g/h/large", "g/s"):
            assert orders_of(opened[path]) == (order,), path
        assert list(opened["d"].attrs) == (["z", "a", "m"] if order else ["a", "m", "z"])


@pytest.mark.semantics("R4")
def test_a_replaced_dataset_keeps_attributes_that_only_its_header_can_hold(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    large = np.arange(20_000.0)
    with h5py.File(file, "w", libver="latest") as opened:
        opened.create_dataset("d", data=[1, 2], track_order=True).attrs["z"] = large
        opened["d"].attrs["a"] = 1
    with writable_tree(file) as tree, unbroken(tree):
        save(tree, b"/d.npy", npy_bytes(np.zeros((2, 2))))
    with h5py.File(file) as opened:
        assert opened["d"].shape == (2, 2)
        assert list(opened["d"].attrs) == ["z", "a"]
        assert np.array_equal(opened["d"].attrs["z"], large)


@pytest.mark.semantics("R4")
def test_a_replaced_dataset_of_the_new_format_keeps_large_attributes(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w", libver="latest") as opened:
        opened["d"] = [1, 2]
        opened["d"].attrs["large"] = np.arange(20_000.0)
    with writable_tree(file) as tree, unbroken(tree):
        save(tree, b"/d.npy", npy_bytes(np.zeros((2, 2))))
    with h5py.File(file) as opened:
        assert opened["d"].shape == (2, 2)
        assert len(opened["d"].attrs["large"]) == 20_000


def test_an_attribute_that_cannot_be_kept_refuses_another_array_and_harms_nothing(
    tmp_path: Path,
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["d"] = [1, 2]
        opened["d"].attrs["odd"] = h5py.Empty("f4")
        opened["d"].attrs.create("bad", [b"x"], dtype=h5py.string_dtype())
        text = b"bad\0\0\0\0\0"
    data = file.read_bytes()
    at = data.index(text) + len(text)
    file.write_bytes(data[:at] + b"\x7f" + data[at + 1 :])  # the class of its datatype
    with writable_tree(file) as tree, unbroken(tree):
        with pytest.raises(H5fsError):
            save(tree, b"/d.npy", npy_bytes(np.zeros((2, 2))))
        tree.make_folder(b"/g")
    with h5py.File(file) as opened:
        assert opened["d"][()].tolist() == [1, 2]


@pytest.mark.semantics("R3")
def test_names_with_nulls_are_refused_and_not_cut(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=[1])
    array = np.zeros(2, [("a\0b", "<i4"), ("c", "<i4")])
    with writable_tree(file) as tree, unbroken(tree):
        with pytest.raises((InvalidArrayError, UnsupportedTypeError)):
            save(tree, b"/new.npy", npy_bytes(array))
        for text in (
            b'{"a\\u0000b": 1}',
            b'{"a": {"x\\u0000": 1}, "$types": {"a": [["x\\u0000", "<i4"]]}}',
        ):
            with pytest.raises(InvalidAttributesError):
                save(tree, b"/d.attrs.json", text)
        with pytest.raises(InvalidAttributesError):
            save(tree, b"/t.dtype.json", b'[["x\\u0000y", "<i4"]]')
    with h5py.File(file) as opened:
        assert set(opened) == {"d"}


@pytest.mark.semantics("R8")
def test_a_filter_that_is_missing_refuses_and_leaves_the_worker(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_chunk((4,))
        creation.set_filter(40_000, 1)  # optional, or it could not be made
        space = h5py.h5s.create_simple((8,), (h5py.h5s.UNLIMITED,))
        h5py.h5d.create(opened.id, b"d", h5py.h5t.STD_I32LE, space, creation)
    data = bytearray(file.read_bytes())
    at = data.index((40_000).to_bytes(2, "little"))
    data[at + 4 : at + 6] = b"\0\0"  # now it must be applied
    file.write_bytes(data)
    with writable_tree(file) as tree, unbroken(tree):
        for array in (np.ones(8, "<i4"), np.ones(12, "<i4"), np.ones((2, 2))):
            with pytest.raises(UnsupportedTypeError):
                save(tree, b"/d.npy", npy_bytes(array))
    with h5py.File(file) as opened:
        assert opened["d"].shape == (8,)


FIELDS = np.dtype([(f"field{number}", "<i4") for number in range(3000)])


@pytest.mark.semantics("R3")
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_type_that_is_too_large_for_hdf5_is_efbig(tmp_path: Path, libver: str) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w", libver=libver) as opened:
        opened["d"] = [1, 2]
    array = np.zeros(2, FIELDS)
    members = ", ".join(f'"field{number}": 1' for number in range(3000))
    types = ", ".join(f'["field{number}", "<i4"]' for number in range(3000))
    attributes = f'{{"a": {{{members}}}, "$types": {{"a": [{types}]}}}}'.encode()
    with writable_tree(file) as tree, unbroken(tree):
        for path in (b"/new.npy", b"/d.npy", b"/s.values.npy"):
            with pytest.raises(DatatypeTooLargeError):
                save(tree, path, npy_bytes(array))
                save(tree, b"/s.offsets.npy", npy_bytes(np.array([0, 2])))
        tree.unlink(b"/s.values.npy")
        with pytest.raises(H5fsError) as refused:
            save(tree, b"/d.attrs.json", attributes)
        assert refused.value.errno == DatatypeTooLargeError.errno
        with pytest.raises(DatatypeTooLargeError):
            save(tree, b"/t.dtype.json", f"[{types}]".encode())
    with h5py.File(file) as opened:
        assert set(opened) == {"d"}
        assert opened["d"][()].tolist() == [1, 2]


def test_a_type_that_just_fits_is_written(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5")
    array = np.ones(2, [(f"f{number:04}", "<i4") for number in range(1260)])
    with writable_tree(file) as tree:
        save(tree, b"/d.npy", npy_bytes(array))
    with h5py.File(file) as opened:
        assert np.array_equal(opened["d"][()], array)


@pytest.mark.semantics("R11")
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_thousand_attributes_go_at_once(tmp_path: Path, libver: str) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w", libver=libver) as opened:
        for name in ("d", "e"):
            opened[name] = [1, 2]
            for number in range(1000):
                opened[name].attrs[f"attribute{number}"] = number
    with writable_tree(file, commit_seconds=None) as tree:
        tree.unlink(b"/d.attrs.json")
        save(tree, b"/e.attrs.json", b'{"attribute7": 7, "attribute8": 9}')
    with h5py.File(file) as opened:
        assert dict(opened["d"].attrs) == {}
        assert dict(opened["e"].attrs) == {"attribute7": 7, "attribute8": 9}


@pytest.mark.semantics("R14")
def test_a_file_that_is_made_here_keeps_the_order_of_its_links(tmp_path: Path) -> None:
    """netCDF-C writes to no other file."""
    file = tmp_path / "f.nc"
    with writable_tree(file, mode=Mode.CREATE) as tree:
        save(tree, b"/z.npy", npy_bytes(np.arange(4)))
        save(tree, b"/z.attrs.json", json.dumps(dict.fromkeys("ihgfedcba", 1)).encode())
        tree.make_folder(b"/g")
        tree.make_folder(b"/g/h")
        save(tree, b"/a.npy", npy_bytes(np.arange(4)))
    with h5py.File(file) as opened:
        for path in ("/", "g", "g/h"):
            assert orders_of(opened[path]) == (0, ORDERED), path
        assert list(opened) == ["z", "g", "a"]
        assert dict(opened["z"].attrs) == dict.fromkeys("abcdefghi", 1)

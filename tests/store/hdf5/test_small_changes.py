"""What a small change costs the worker, and what it answers: as little and as much as is needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pytest
from support.reference import npy_bytes

from h5fs.model.objects import ObjectInfo, ObjectRef
from h5fs.model.settings import Locking, Mode, NewDatasets, StoreOptions
from h5fs.store.hdf5 import store as store_module
from h5fs.store.hdf5 import writing_store
from h5fs.store.hdf5.objects.attributes import read_attributes
from h5fs.store.hdf5.store_choice import make_library_store
from h5fs.store.hdf5.writing_store import WritingHdf5Store
from h5fs.store.interface import ArrayPart
from h5fs.store.library_interface import NewArray
from h5fs.store.log.file_and_log import open_logged
from h5fs.store.log.logged_file import LoggedFile
from h5fs.store.workers.shared_buffers import SharedBufferViews
from h5fs.store.workers.worker_file import FileKind


class Written:
    """A store that writes, in this process. ``opened`` are the paths that it has opened."""

    def __init__(self, store: WritingHdf5Store, views: SharedBufferViews) -> None:
        self.store = store
        self.root = store.root().ref
        self._views = views
        self._count = 0
        self.opened: list[bytes] = []
        open_identifier: Callable[[ObjectRef], Any] = store._opened._open_identifier

        def note(ref: ObjectRef) -> Any:
            self.opened.append(ref.path)
            return open_identifier(ref)

        store._opened._open_identifier = note

    def save(self, group: ObjectRef, name: bytes, array: np.ndarray[Any, Any]) -> ObjectInfo:
        data = npy_bytes(array)
        descriptor = os.memfd_create("draft")
        os.write(descriptor, data)
        self._count += 1
        self._views.add(self._count, descriptor, len(data))
        start = len(data) - array.nbytes
        new = NewArray(array.shape, array.dtype, False, start, self._count, False)
        info = self.store.write_array(group, name, new)
        self._views.remove(self._count)
        return info


@contextmanager
def written(file: Path, **options: Any) -> Iterator[Written]:
    files = open_logged(file, Mode.UPDATE, Locking.TRUE, b"boot")
    assert files is not None
    views = SharedBufferViews()
    store = make_library_store(
        StoreOptions(file, mode=Mode.UPDATE, boot_id=b"boot", **options), FileKind.LOGGED,
        files.descriptors(), lambda *_: None, shared_buffers=views, granted=frozenset(),
    )  # fmt: skip
    assert isinstance(store, WritingHdf5Store)
    store.open()
    yield Written(store, views)
    store.commit(is_checkpoint=True)
    store.close()
    files.close(removes_log=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as made:
        made["g/old"] = made["g/text"] = np.arange(3)
        made["g/self"] = made["g"]
    return path


def test_one_small_change_after_another_opens_nothing(file: Path) -> None:
    with written(file) as it:
        group = it.store.create_group(it.root, b"new").ref
        it.save(group, b"first", np.arange(100))
        it.opened.clear()
        for number in range(3):
            it.save(group, b"d%d" % number, np.arange(100.0))
            it.store.move_link(group, b"d%d" % number, group, b"e%d" % number)
            it.store.delete_link(group, b"e%d" % number)
            it.store.create_group(group, b"g%d" % number)
        assert not it.opened


def test_one_write_in_place_after_another_looks_at_the_dataset_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with written(file) as it:
        data = it.save(it.root, b"data", np.arange(1000)).ref
        looks: list[object] = []
        for look in ("project_dataset", "has_whole_edges"):
            for module in (store_module, writing_store):
                monkeypatch.setattr(module, look, looks.append, raising=False)
        for number in range(3):
            it.store.write_elements(data, 800 * number, np.full(100, number).tobytes())
        assert not looks
        expected = np.arange(1000)
        expected[:300] = np.repeat(range(3), 100)
        assert it.store.read_data(data, ArrayPart.ELEMENTS, 0, 8000) == expected.tobytes()


def test_writes_in_place_go_on_where_the_dataset_has_grown(file: Path) -> None:
    with h5py.File(file, "r+") as opened:
        opened.create_dataset("rows", data=np.zeros(4), maxshape=(None,), chunks=(4,))
    with written(file) as it:
        rows = it.store._info(it.root, b"rows").ref
        it.store.write_elements(rows, 0, np.ones(2).tobytes())
        it.store.write_elements(rows, 8, np.ones(2).tobytes())
        longer = np.arange(12.0)
        new = NewArray((12,), longer.dtype, False, 0, 0, data=longer.tobytes())
        assert it.store.change_array(rows, new, ((32, 96),))
        it.store.write_elements(rows, 80, np.full(2, -1.0).tobytes())
        assert not it.store.is_broken
    with h5py.File(file) as opened:
        assert opened["rows"][()].tolist() == [1, 1, 1, 0, *range(4, 10), -1, -1]


@pytest.mark.parametrize(
    "array", [np.arange(100.0), np.array(["a", "bc"]), np.zeros((0, 3)), np.array(7)],
    ids=["numbers", "text", "none", "one"],
)  # fmt: skip
@pytest.mark.parametrize("gzip_level", [None, 1])
def test_a_change_answers_what_is_found_later(
    file: Path, array: np.ndarray[Any, Any], gzip_level: int | None
) -> None:
    new_datasets = NewDatasets(gzip_level=gzip_level)
    with written(file, new_datasets=new_datasets) as it:
        group = it.store.get_link(it.root, b"g").target
        assert group is not None
        for name in (b"new", b"old", b"new"):
            answer = it.save(group.ref, name, array)
            it.store._forget_all()
            found = it.store.get_link(group.ref, name).target
            assert found is not None
            assert answer.ref.path == found.ref.path
            if answer.dataset is not None:
                assert answer.dataset == it.store.describe_dataset(found.ref)
            bare = {"dataset": None, "storage_size_bytes": 0}
            assert msgspec.structs.replace(answer, **bare) == found
            size = array.size * it.store.describe_dataset(found.ref).dtype.itemsize
            if array.dtype.kind != "U":
                data = it.store.read_data(found.ref, ArrayPart.ELEMENTS, 0, size)
                assert bytes(data) == array.tobytes()
        assert it.store.create_group(group.ref, b"h") == it.store.get_link(group.ref, b"h").target


def test_written_attributes_are_answered_as_they_are_read_later(file: Path) -> None:
    text = h5py.string_dtype()
    values = {
        "b": 1, "a": 2.5, "fixed": np.bytes_(b"abc"), "text": "t", "empty": "", "none": [1.5] * 0,
        "texts": np.array(["x", "", "yz"], text), "pair": np.array([(1, 2)], "i4,i4"),
        "bools": [True, False], "null": h5py.Empty("i4"), "big": np.arange(3, dtype=">i2"),
    }  # fmt: skip
    with h5py.File(file.with_name("other.h5"), "w") as other:
        other.attrs.update(values)
        attributes = read_attributes(other["/"].id)
    assert len(attributes) == len(values)
    with written(file) as it:
        for name in (b"new", b"other"):
            ref = it.save(it.root, name, np.arange(3)).ref
            for some in (attributes[:5], attributes[3:], attributes):
                info, answer = it.store.write_attributes(ref, some, (b"gone", b"empty"))
                assert answer == it.store.read_attributes(ref)
                assert info.attribute_count == len(answer)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("keeps_order", [False, True])
def test_written_attributes_of_a_group_are_answered_in_the_order_in_which_they_are_read(
    tmp_path: Path, libver: str, *, keeps_order: bool
) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w", libver=libver) as made:
        made.create_group("g", track_order=keeps_order)
        made.attrs.update({"b": 1, "a": 2})
        attributes = read_attributes(made["/"].id)
    with written(path) as it:
        group = it.store._info(it.root, b"g").ref
        assert it.store.read_attributes(group) == ()
        for some in (attributes[1:], attributes[:1]):  # b, then a
            info, answer = it.store.write_attributes(group, some, ())
            assert answer == it.store.read_attributes(group)
            assert info.attribute_count == len(answer)
        names = [attribute.name for attribute in answer]
        assert names == ([b"b", b"a"] if keeps_order else [b"a", b"b"])


def test_a_group_that_leads_to_itself_goes_link_by_link(file: Path) -> None:
    with written(file) as it:
        inner = it.store.get_link(it.root, b"g").target
        assert inner is not None
        through_itself = ObjectRef(0, inner.ref.id, b"/g/self/self")
        it.store.delete_link(through_itself, b"old")
        it.store.delete_link(through_itself, b"self")
        answer = it.save(ObjectRef(0, inner.ref.id, b"/g"), b"new", np.arange(5))
        assert answer == it.save(inner.ref, b"new", np.arange(5))
        it.store.delete_link(it.root, b"g")
        again = it.store.create_group(it.root, b"g").ref
        it.save(again, b"new", np.arange(4))
    with h5py.File(file) as opened:
        assert list(opened["g"]) == ["new"]
        assert opened["g/new"][:].tolist() == [0, 1, 2, 3]


def test_the_library_keeps_little_metadata(file: Path) -> None:
    """Each flush goes through all that it keeps."""
    with written(file) as it:
        for number in range(100):
            it.store.create_group(it.root, b"g%d" % number)
        most_bytes, _, kept_bytes, _ = it.store._files.file_id(0).get_mdc_size()
        assert 0 < kept_bytes <= most_bytes <= 2**16


@pytest.mark.parametrize("keeps_order", [False, True])
def test_a_removed_object_that_is_held_costs_three_more_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, keeps_order: bool
) -> None:
    path, writes, counts = tmp_path / "f.h5", list[int](), list[int]()
    with h5py.File(path, "w", libver="latest", track_order=keeps_order) as made:
        for number in range(120):
            made[f"g/d{number:03}"] = np.arange(3)
    write = LoggedFile.write

    def noting(self: LoggedFile, data: Any) -> int:
        writes.append(len(data))
        return write(self, data)

    with written(path) as it:
        group = it.store._info(it.root, b"g").ref
        ids = [it.store._info(group, b"d%03d" % number).ref.id for number in range(120)]
        monkeypatch.setattr(LoggedFile, "write", noting)
        for number in range(120):
            opened = tuple(ids[60 : number + 1])
            writes.clear()
            it.store.delete_link(group, b"d%03d" % number, opened)
            counts.append(len(writes))
        assert max(counts[70:120]) <= max(counts[10:60]) + 3
        hidden = it.store._make_hidden()
        assert len(hidden) == 60
        order = h5py.h5p.CRT_ORDER_TRACKED if keeps_order else 0
        assert hidden.get_create_plist().get_link_creation_order() & order == order
        it.store.drop_nameless(tuple(ids))
        assert not len(hidden)
        it.store.remove_hidden()
    with h5py.File(path) as opened_file:
        assert list(opened_file) == ["g"]
        assert not len(opened_file["g"])

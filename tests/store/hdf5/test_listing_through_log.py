"""Listings of a file that is being written: from object headers, read through the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from msgspec import structs

from h5fs.model.datatypes import BitLayout, ByteOrder, IntegerType
from h5fs.model.link_table import Links
from h5fs.model.objects import Attribute, Link, LinkKind, ObjectInfo
from h5fs.model.settings import Locking, Mode, StoreOptions
from h5fs.projection.json.attribute_file import attributes_to_json
from h5fs.store.hdf5.objects.files import OpenFiles
from h5fs.store.hdf5.objects.links import LinkReader
from h5fs.store.hdf5.store_choice import make_library_store
from h5fs.store.hdf5.writing_store import WritingHdf5Store
from h5fs.store.interface import ArrayPart
from h5fs.store.library_interface import Look
from h5fs.store.log.file_and_log import FileAndLog, open_logged, read_boot_id
from h5fs.store.log.log_path import log_path
from h5fs.store.log.reading.snapshot_file import SnapshotFile
from h5fs.store.log.system_calls import RealFile
from h5fs.store.sources.interface import read_bytes
from h5fs.store.workers.worker_file import FileKind

COUNT = 40
NUMBER = IntegerType(BitLayout(4, ByteOrder.LITTLE, 32), True)


def fetch_nothing(ranges: Sequence[tuple[int, int]], _unit_bytes: int) -> None:
    """Everything is here."""
    raise AssertionError(ranges)


def open_files(file: Path, mode: Mode) -> FileAndLog:
    files = open_logged(file, mode, Locking.DEFAULT, read_boot_id())
    assert files is not None
    return files


@pytest.fixture(params=["earliest", "latest"])
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w", libver=request.param, userblock_size=1024) as opened:
        for number in range(COUNT):
            opened[f"d{number}"] = np.arange(number + 1)
    return path


@pytest.fixture
def store(file: Path) -> Iterator[WritingHdf5Store]:
    files = open_files(file, Mode.UPDATE)
    options = StoreOptions(file, Mode.UPDATE, boot_id=read_boot_id())
    made = make_library_store(options, FileKind.LOGGED, files.descriptors(), fetch_nothing)
    made.open()
    assert isinstance(made, WritingHdf5Store)
    yield made
    made.close()
    files.close(removes_log=False)


def change(store: WritingHdf5Store) -> None:
    """Make changes that are in the log alone."""
    root = store.root().ref
    group = store.create_group(root, b"new group").ref
    target = store.get_link(root, b"d1").target
    assert target is not None
    store.create_link(group, Link(b"other name", LinkKind.HARD, target=target))
    store.create_link(root, Link(b"soft", LinkKind.SOFT, soft_target=b"d2"))
    store.delete_link(root, b"d0")
    store.write_attributes(target.ref, (Attribute(b"a", NUMBER, (), (b"\1\0\0\0",)),), ())
    store.write_elements(target.ref, 0, bytes(range(8)))


def as_library_says(store: WritingHdf5Store, monkeypatch: pytest.MonkeyPatch) -> list[Link]:
    with monkeypatch.context() as patched:
        patched.setattr(OpenFiles, "layout", lambda _self, _number: None)
        return list(Links(store.list_links(store.root().ref)))


def described(link: Link) -> Link:
    """Return what the library says of a link, too, without what only a scan does."""
    if link.target is None:
        return link
    known: dict[str, Any] = {"dataset": None, "storage_size_bytes": 0, "file_offset": -1}
    known["array"] = None
    target = ObjectInfo(**{**_fields(link.target), **known})
    return Link(link.name, link.kind, target=target)


def _fields(info: ObjectInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in info.__struct_fields__}


def test_a_listing_has_what_was_changed_and_asks_the_library_about_no_object(
    store: WritingHdf5Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(store)
    expected = as_library_says(store, monkeypatch)
    root, asked = store.root().ref, list[bytes]()
    real = LinkReader.describe_object
    monkeypatch.setattr(
        LinkReader, "describe_object",
        lambda self, location, name, **how: asked.append(name) or real(self, location, name, **how),
    )  # fmt: skip
    found = list(Links(store.list_links(root)))
    assert [described(link) for link in found] == expected
    assert b"new group" in [link.name for link in found] and len(found) == COUNT + 1
    assert not asked
    sizes = {link.name: link.target.dataset for link in found if link.target is not None}
    one = next(link.target for link in found if link.name == b"d1")
    assert one is not None and one.attribute_count == 1 and one.hard_link_count == 2
    assert all(info is not None for name, info in sizes.items() if name != b"new group")


def test_a_place_that_a_listing_tells_has_the_data_where_the_log_is_read_over_the_file(
    file: Path, store: WritingHdf5Store
) -> None:
    change(store)
    main, log = (path.open("rb") for path in (file, log_path(file)))
    with main, log:
        committed = SnapshotFile(RealFile(main.fileno()), RealFile(log.fileno()))
        committed.open_beside_writer()
        found = Links(store.list_links(store.root().ref))
        datasets = [link.target for link in found if link.target and link.target.file_offset >= 0]
        assert len(datasets) == COUNT - 1
        for info in datasets:
            wanted = store.read_data(info.ref, ArrayPart.ELEMENTS, 0, info.storage_size_bytes)
            assert read_bytes(committed, info.file_offset, info.storage_size_bytes) == wanted


def test_a_listing_in_mode_r_of_a_file_with_a_log_is_the_same(
    file: Path, store: WritingHdf5Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(store)
    expected = as_library_says(store, monkeypatch)
    kept = file.with_suffix(".kept")  # as a killed mount leaves them
    for end in ("", ".h5fs-log"):
        kept.with_name(kept.name + end).write_bytes(file.with_name(file.name + end).read_bytes())
    files = open_files(kept, Mode.READ)
    options = structs.replace(StoreOptions(kept), boot_id=read_boot_id())
    reader = make_library_store(options, FileKind.LOGGED, files.descriptors(), fetch_nothing)
    reader.open()
    try:
        found = list(Links(reader.list_links(reader.root().ref)))
    finally:
        reader.close()
        files.close(removes_log=False)
    assert [described(link) for link in found] == expected


def test_compact_data_have_no_place_while_headers_may_be_rearranged(tmp_path: Path) -> None:
    path = tmp_path / "compact.h5"
    with h5py.File(path, "w") as opened:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        for number in range(COUNT):
            h5py.h5d.create(opened.id, b"d%d" % number, h5py.h5t.STD_I32LE, space, creation)
    files = open_files(path, Mode.UPDATE)
    options = StoreOptions(path, Mode.UPDATE, boot_id=read_boot_id())
    made = make_library_store(options, FileKind.LOGGED, files.descriptors(), fetch_nothing)
    made.open()
    try:
        table = Links(made.list_links(made.root().ref))
        assert {link.target.file_offset for link in table if link.target is not None} == {-1}
    finally:
        made.close()
        files.close(removes_log=True)


def test_attributes_that_are_looked_at_ahead_are_those_of_the_log(store: WritingHdf5Store) -> None:
    refs = [link.target.ref for link in Links(store.list_links(store.root().ref))
            if link.target is not None]  # fmt: skip
    for number, ref in enumerate(refs):
        element = number.to_bytes(4, "little")
        store.write_attributes(ref, (Attribute(b"number", NUMBER, (), (element,)),), ())
    details = store.look_ahead(tuple(Look(ref, True, False, False) for ref in refs))
    assert details
    for ref, found in zip(refs, details, strict=False):
        assert found.attributes == attributes_to_json(store.read_attributes(ref))
        assert found.attributes != b"{}\n"

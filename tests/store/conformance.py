"""What every store must do, whoever keeps the data: the promise of `store/interface.py`, as tests.

To try a store of your own, write a module of tests with a subclass of ``StoreConformance`` (or
``WritingStoreConformance``, for one that writes too) whose name begins with ``Test``, and say in
``open_store`` how a store gets the content of an HDF5 file. The truth is what h5py reads there;
what your store cannot hold at all, name in ``left_out``.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.reference import expected_files

from h5fs.errors import (
    ExistsError,
    H5fsError,
    LinkLoopError,
    NotFoundError,
    UnreadableError,
)
from h5fs.model.datatypes import IntegerType
from h5fs.model.file_status import FileStatus, SpaceStatus
from h5fs.model.link_table import Links
from h5fs.model.objects import Attribute, Layout, Link, LinkKind, ObjectInfo, ObjectKind, ObjectRef
from h5fs.projection.npy import parse_header
from h5fs.store.interface import ArrayFile, ArrayPart, Store, WritingStore

PARTS = {
    ".npy": ArrayPart.ELEMENTS,
    ".values.npy": ArrayPart.VALUES,
    ".offsets.npy": ArrayPart.OFFSETS,
}
COLOURS = h5py.enum_dtype({"red": 1, "blue": 7}, basetype="<i2")
PAIR = np.dtype([("time", "<f8"), ("code", ">u2"), ("name", "S5"), ("box", "<i4", (2, 3))])


def make_sample(folder: Path) -> Path:
    """Write an HDF5 file that has everything a store is asked for here, and return its path."""
    path = folder / "sample.h5"
    with h5py.File(path, "w", libver="latest") as opened:
        numbers = np.arange(600, dtype="<i4").reshape(20, 30)
        group = opened.create_group("group", track_order=True)
        opened["contiguous"] = numbers
        opened.create_dataset("gzip", data=numbers, chunks=(7, 11), compression="gzip")
        chunked = {"data": numbers, "chunks": (7, 11)}
        opened.create_dataset("shuffled", shuffle=True, fletcher32=True, **chunked)
        opened.create_dataset("chunked", data=numbers, chunks=(4, 30), maxshape=(None, 30))
        sparse = opened.create_dataset("sparse", (40, 40), ">f4", chunks=(8, 8), fillvalue=2.5)
        sparse[9:12, 30:33] = 7
        opened.create_dataset("unlimited", (3, 9), "<i8", chunks=(2, 2), maxshape=(10, None))[:] = 5
        opened["scalar"] = 4.25
        opened["null"] = h5py.Empty("<f4")
        opened.create_dataset("nothing", (0, 3), "<u2")
        opened["pairs"] = np.arange(7 * PAIR.itemsize, dtype="u1").view(PAIR)
        opened["truths"] = np.array([True, False, True])
        opened["complex"] = np.array([1 + 2j, -3j], "<c8")
        opened.create_dataset("colours", data=np.array([1, 7, 1], "<i2"), dtype=COLOURS)
        opened["fixed"] = np.array([b"ab", b"", b"abcde"], "S5")
        opened.create_dataset("texts", data=["ä", "", "three"], dtype=h5py.string_dtype())
        sequences = opened.create_dataset("sequences", (3,), h5py.vlen_dtype("<i4"))
        sequences[0], sequences[2] = [1, 2, 3], [4]
        references = opened.create_dataset("references", (2,), h5py.ref_dtype)
        references[0] = opened["contiguous"].ref
        opened["type"] = np.dtype("<i8")
        group["inner"] = np.arange(5.0)
        opened["again"] = opened["contiguous"]
        opened["soft"] = h5py.SoftLink("/group/inner")
        group["beside"] = h5py.SoftLink("inner")
        opened["dangling"] = h5py.SoftLink("/nowhere")
        opened["round"], opened["about"] = h5py.SoftLink("/about"), h5py.SoftLink("/round")
        opened["Über 1%"] = np.arange(3, dtype="u1")
        for name, value in (("units", "degC"), ("count", np.int16(-3)), ("rate", 0.5)):
            opened["contiguous"].attrs[name] = value
        group.attrs["list"] = np.arange(4, dtype=">u8")
    with h5py.File(path, "r+") as opened:
        opened["far"] = h5py.ExternalLink("far.h5", "/d")
    with h5py.File(folder / "far.h5", "w") as opened:
        opened["d"] = np.arange(9.0)
    return path


DATASETS = (
    "contiguous", "gzip", "shuffled", "chunked", "sparse", "unlimited", "scalar", "null", "nothing",
    "pairs", "truths", "complex", "colours", "fixed", "texts", "sequences", "references",
    "Über 1%", "group/inner",
)  # fmt: skip


def object_at(store: Store, path: str) -> ObjectInfo:
    """Return the object at a path of hard links, as the tree finds it: link by link."""
    found = store.root()
    for name in path.split("/"):
        target = store.get_link(found.ref, name.encode()).target
        assert target is not None
        found = target
    return found


def read(store: Store, ref: ObjectRef, part: ArrayPart, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    store.read_into(ref, store.describe_dataset(ref), part, offset, memoryview(buffer))
    return bytes(buffer)


class StoreConformance:
    """What a store that is read must do."""

    left_out: frozenset[str] = frozenset()
    """Names of the sample that the store cannot hold."""

    @classmethod
    def open_store(cls, file: Path) -> Store:
        """Return a store, open, of what an HDF5 file holds."""
        raise NotImplementedError

    @pytest.fixture
    def sample(self, tmp_path: Path) -> Path:
        """A file of one test's own."""
        return make_sample(tmp_path)

    @pytest.fixture(scope="class")
    @classmethod
    def truth(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[h5py.File]:
        """The sample as h5py reads it; a copy, since a store may have locked its own."""
        with h5py.File(make_sample(tmp_path_factory.mktemp("truth"))) as opened:
            yield opened

    @pytest.fixture(scope="class")
    @classmethod
    def store(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
        """A store of the sample, which no test changes."""
        with closing(cls.open_store(make_sample(tmp_path_factory.mktemp("store")))) as store:
            yield store

    def _check_held(self, *names: str) -> None:
        missing = self.left_out.intersection(names)
        if missing:
            pytest.skip(f"this store does not hold {', '.join(sorted(missing))}")

    def test_the_root_is_a_group_of_file_0(self, store: Store) -> None:
        root = store.root()
        assert (root.kind, root.ref.file, root.ref.path) == (ObjectKind.GROUP, 0, b"/")

    def test_every_link_is_listed_once_sorted_and_as_it_is_when_asked_for_alone(
        self, store: Store, truth: h5py.File
    ) -> None:
        names = sorted(name.encode() for name in truth if name not in self.left_out)
        root = store.root().ref
        listed = list(Links(store.list_links(root)))
        assert [link.name for link in listed if link.name.decode() not in self.left_out] == names
        for link in listed:
            alone = store.get_link(root, link.name)
            assert (alone.name, alone.kind) == (link.name, link.kind)
            assert (alone.soft_target, alone.external_file) == (
                link.soft_target, link.external_file,
            )  # fmt: skip
            if link.target is not None:
                assert alone.target is not None
                assert (alone.target.ref, alone.target.kind, alone.target.attribute_count) == (
                    link.target.ref, link.target.kind, link.target.attribute_count,
                )  # fmt: skip

    def test_objects_have_the_kind_counts_and_path_that_they_have(self, store: Store) -> None:
        kinds = {"group": ObjectKind.GROUP, "type": ObjectKind.DATATYPE, "gzip": ObjectKind.DATASET}
        for name, kind in kinds.items():
            assert object_at(store, name).kind is kind
        assert object_at(store, "contiguous").attribute_count == 3
        assert object_at(store, "group/inner").ref.path == b"/group/inner"
        self._check_held("sequences")
        assert object_at(store, "sequences").holds_sequences
        assert not object_at(store, "gzip").holds_sequences

    def test_names_of_one_object_have_one_ref_and_others_another(self, store: Store) -> None:
        self._check_held("again")
        first, second = object_at(store, "contiguous"), object_at(store, "again")
        assert first.ref == second.ref
        assert hash(first.ref) == hash(second.ref)
        assert first.ref != object_at(store, "gzip").ref
        assert first.hard_link_count == 2

    def test_ids_are_4_apart_since_inode_numbers_are_made_of_them(self, store: Store) -> None:
        groups = [store.root().ref, object_at(store, "group").ref]
        links = [link for group in groups for link in Links(store.list_links(group))]
        found = {link.target.ref.id for link in links if link.target is not None}
        found |= {group.id for group in groups}
        ids = sorted(found)
        assert 0 < ids[0] <= ids[-1] < 2**63
        assert all(second - first >= 4 for first, second in pairwise(ids))

    def test_a_link_that_is_not_there_is_not_found(self, store: Store) -> None:
        for name in (b"nothing of that name", b"\xff", b"contiguou"):
            with pytest.raises(NotFoundError):
                store.get_link(store.root().ref, name)

    @pytest.mark.parametrize(
        "group, name, target",
        [("", "soft", "group/inner"), ("group", "beside", "group/inner"), ("", "gzip", "gzip")],
    )
    def test_links_lead_where_they_lead(
        self, store: Store, group: str, name: str, target: str
    ) -> None:
        ref = object_at(store, group).ref if group else store.root().ref
        link = store.get_link(ref, name.encode())
        assert store.follow(ref, link).ref == object_at(store, target).ref

    def test_links_that_lead_nowhere_say_so(self, store: Store) -> None:
        root = store.root().ref
        with pytest.raises(NotFoundError):
            store.follow(root, store.get_link(root, b"dangling"))
        with pytest.raises(LinkLoopError):
            store.follow(root, store.get_link(root, b"round"))

    def test_an_external_link_leads_to_another_file(self, store: Store) -> None:
        self._check_held("far")
        root = store.root().ref
        link = store.get_link(root, b"far")
        assert (link.kind, link.external_file) == (LinkKind.EXTERNAL, b"far.h5")
        there = store.follow(root, link)
        assert there.ref.file != 0
        assert read(store, there.ref, ArrayPart.ELEMENTS, 0, 72) == np.arange(9.0).tobytes()

    def test_the_last_component_of_a_path_is_found_without_following_it(self, store: Store) -> None:
        root = store.root().ref
        group, link = store.find_link(root, b"/group/beside")
        assert group == object_at(store, "group").ref
        assert link is not None
        assert (link.kind, link.soft_target) == (LinkKind.SOFT, b"inner")
        assert store.find_link(root, b"/") == (root, None)

    @pytest.mark.parametrize("name", DATASETS)
    def test_every_range_of_bytes_is_that_of_the_array_that_h5py_reads(
        self, store: Store, truth: h5py.File, name: str
    ) -> None:
        self._check_held(name)
        files = expected_files(truth[name])
        ref = object_at(store, name).ref
        info = store.describe_dataset(ref)
        chance = random.Random(name)
        for suffix, array in files.items():
            part, data = PARTS[suffix], np.ascontiguousarray(array).tobytes()
            if part is ArrayPart.ELEMENTS:
                shape = info.shape if info.shape is not None else (0,)
                assert (*shape, *info.dtype.shape) == array.shape
                assert info.dtype.base == array.dtype
            assert (info.value_count is None) == (part is ArrayPart.ELEMENTS)
            ranges = [(0, len(data))]
            for _ in range(20):
                start = chance.randint(0, len(data))
                ranges.append((start, chance.randint(start, min(len(data), start + 300))))
            for start, stop in ranges:
                assert read(store, ref, part, start, stop - start) == data[start:stop]

    def test_describing_a_dataset_takes_no_look_at_its_elements(self, tmp_path: Path) -> None:
        path = tmp_path / "huge.h5"
        with h5py.File(path, "w") as opened:
            opened.create_dataset("d", (2**25, 2**25), "<f8", chunks=(2**9, 2**9))
        with closing(self.open_store(path)) as store:
            info = store.describe_dataset(object_at(store, "d").ref)
            assert (info.shape, info.is_scanned) == ((2**25, 2**25), False)

    def test_storage_is_told_as_h5py_tells_it(self, store: Store, truth: h5py.File) -> None:
        for name in ("contiguous", "chunked", "gzip"):
            dataset = truth[name]
            told = store.describe_storage(object_at(store, name).ref)
            assert (told.shape, told.maxshape) == (dataset.shape, dataset.maxshape)
            assert told.chunk_shape == dataset.chunks
            assert told.layout is (Layout.CHUNKED if dataset.chunks else Layout.CONTIGUOUS)
            assert len(told.filters) == (name == "gzip")
        assert store.describe_storage(object_at(store, "null").ref).shape is None

    def test_attributes_come_in_order_with_their_values(self, store: Store) -> None:
        attributes = store.read_attributes(object_at(store, "contiguous").ref)
        assert all(isinstance(each, Attribute) for each in attributes)
        values = {each.name: each for each in attributes if isinstance(each, Attribute)}
        assert set(values) == {b"units", b"count", b"rate"}
        assert values[b"units"].elements == (b"degC",)
        assert (values[b"count"].shape, values[b"count"].elements) == ((), (b"\xfd\xff",))
        (numbers,) = store.read_attributes(object_at(store, "group").ref)
        assert isinstance(numbers, Attribute)
        assert numbers.shape == (4,)
        assert b"".join(numbers.elements) == np.arange(4, dtype=">u8").tobytes()
        assert store.read_attributes(object_at(store, "gzip").ref) == ()

    def test_a_committed_datatype_is_described(self, store: Store) -> None:
        self._check_held("type")
        datatype = store.describe_datatype(object_at(store, "type").ref)
        assert isinstance(datatype, IntegerType)
        assert datatype.bits.size_bytes == 8
        assert datatype.signed

    def test_an_object_of_another_kind_is_an_error_and_the_store_goes_on(
        self, store: Store
    ) -> None:
        group = object_at(store, "group").ref
        for ask in (store.describe_dataset, store.describe_storage):
            with pytest.raises(H5fsError):
                ask(group)
        with pytest.raises(H5fsError):
            store.list_links(object_at(store, "gzip").ref)
        with pytest.raises(H5fsError):
            store.get_link(object_at(store, "gzip").ref, b"x")
        assert object_at(store, "gzip").kind is ObjectKind.DATASET

    def test_an_object_that_is_not_there_is_unreadable(self, store: Store) -> None:
        lost = replace_path(object_at(store, "gzip").ref, b"/no such object")
        with pytest.raises(UnreadableError):
            store.describe_dataset(lost)

    def test_many_threads_read_at_once(self, store: Store, truth: h5py.File) -> None:
        data = {name: truth[name][()].tobytes() for name in ("contiguous", "gzip", "sparse")}
        refs = {name: object_at(store, name).ref for name in data}

        def look(number: int) -> bool:
            name = list(data)[number % len(data)]
            start = number * 37 % 1000
            listed = store.list_links(store.root().ref)
            part = read(store, refs[name], ArrayPart.ELEMENTS, start, 500)
            return part == data[name][start : start + 500] and bool(listed.names)

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(look, range(200)))

    def test_the_file_is_described(self, store: Store) -> None:
        status, space = store.file_status(0), store.file_system_status()
        assert (type(status), type(space)) == (FileStatus, SpaceStatus)
        assert status.size_bytes > 0
        assert status.mtime_ns > 10**18  # nanoseconds
        assert status.mode & 0o400
        assert space.fragment_bytes > 0
        assert space.fragments >= space.free_fragments >= space.available_fragments >= 0

    def test_a_path_is_followed_to_its_last_link(self, store: Store) -> None:
        root, group = store.root().ref, object_at(store, "group").ref
        inner = store.get_link(group, b"inner")
        for start, path in ((root, b"group/inner"), (group, b"inner"), (group, b"/group/inner")):
            where, link = store.find_link(start, path)
            assert (where, link) == (group, inner)
        where, link = store.find_link(root, b"soft")
        assert link is not None
        assert (where, link.kind) == (root, LinkKind.SOFT)
        assert store.find_link(group, b"/") == (root, None)
        with pytest.raises(NotFoundError):
            store.find_link(root, b"group/never")
        with pytest.raises(NotFoundError):
            store.find_link(root, b"dangling/more")

    def test_a_part_that_a_dataset_has_not_is_an_error(self, store: Store) -> None:
        ref = object_at(store, "sparse").ref
        with pytest.raises(H5fsError):
            read(store, object_at(store, "texts").ref, ArrayPart.OFFSETS, 0, 8)
        assert read(store, ref, ArrayPart.ELEMENTS, 0, 4) == np.array(2.5, ">f4").tobytes()

    def test_a_read_writes_to_its_buffer_alone(self, store: Store) -> None:
        ref = object_at(store, "gzip").ref
        buffer = bytearray(b"x" * 30)
        info = store.describe_dataset(ref)
        store.read_into(ref, info, ArrayPart.ELEMENTS, 4, memoryview(buffer)[10:18])
        wanted = np.array([1, 2], "<i4").tobytes()
        assert buffer == b"x" * 10 + wanted + b"x" * 12
        store.read_into(ref, info, ArrayPart.ELEMENTS, 2400, memoryview(bytearray()))

    def test_statistics_add_up(self, store: Store) -> None:
        told = store.statistics()
        assert (told + told).workers.usual_count == 2 * told.workers.usual_count
        assert told.quarantined == ()

    def test_closing_twice_is_no_error(self, sample: Path) -> None:
        store = self.open_store(sample)
        store.close()
        store.close()


class WritingStoreConformance(StoreConformance):
    """What a store that is written to must do, too."""

    @classmethod
    def open_store(cls, file: Path) -> WritingStore:
        """Return a store, open to write, of what an HDF5 file holds."""
        raise NotImplementedError

    def read_back(self, file: Path) -> h5py.File:
        """Open what a closed store has made of the file."""
        return h5py.File(file)

    @pytest.fixture
    def own(self, sample: Path) -> Iterator[Any]:
        """A store of one test's own."""
        with closing(self.open_store(sample)) as store:
            yield store

    def test_a_group_is_created_once(self, own: WritingStore, sample: Path) -> None:
        root = own.root().ref
        made = own.create_group(root, b"new")
        assert (made.kind, made.ref.path) == (ObjectKind.GROUP, b"/new")
        for name in (b"new", b"gzip", b"soft"):
            with pytest.raises(ExistsError):
                own.create_group(root, name)
        own.create_group(made.ref, b"below")
        assert object_at(own, "new/below").kind is ObjectKind.GROUP
        own.close()
        with self.read_back(sample) as opened:
            assert list(opened["new"]) == ["below"]

    def test_an_array_is_written_and_written_over(self, own: WritingStore, sample: Path) -> None:
        root = own.root().ref
        for array in (np.arange(6.0).reshape(2, 3), np.ones((4, 4), "<i2"), np.float32(7)[None]):
            with array_file(array) as lent:
                made = own.write_array(root, b"new", lent)
            assert made.kind is ObjectKind.DATASET
            ref = object_at(own, "new").ref
            assert own.describe_dataset(ref).shape == array.shape
            assert read(own, ref, ArrayPart.ELEMENTS, 0, array.nbytes) == array.tobytes()
        own.close()
        with self.read_back(sample) as opened:
            assert opened["new"][()] == np.float32(7)

    def test_an_array_written_over_leaves_attributes_names_and_filters(
        self, own: WritingStore, sample: Path
    ) -> None:
        with array_file(np.arange(600, 1200, dtype="<i4").reshape(20, 30)) as lent:
            own.write_array(own.root().ref, b"contiguous", lent)
        with array_file(np.ones((20, 30), "<i4")) as lent:
            own.write_array(own.root().ref, b"gzip", lent)
        own.close()
        with self.read_back(sample) as opened:
            assert opened["again"][0, 0] == opened["contiguous"][0, 0] == 600
            assert opened["contiguous"].attrs["units"] == "degC"
            assert opened["gzip"].compression == "gzip"
            assert (opened["gzip"][...] == 1).all()

    def test_an_array_does_not_take_the_name_of_another_kind(self, own: WritingStore) -> None:
        with array_file(np.arange(3)) as lent:
            for name in (b"group", b"type", b"soft"):
                with pytest.raises(ExistsError):
                    own.write_array(own.root().ref, name, lent)

    def test_elements_are_written_in_place(self, own: WritingStore, sample: Path) -> None:
        wanted = bytearray(np.arange(600, dtype="<i4").tobytes())
        wanted[5:12] = b"\1\2\3\4\5\6\7"
        for name in ("contiguous", "chunked", "gzip"):
            ref = object_at(own, name).ref
            own.describe_dataset(ref)
            own.write_elements(ref, 5, b"\1\2\3\4\5\6\7")
            assert read(own, ref, ArrayPart.ELEMENTS, 0, len(wanted)) == wanted
        own.close()
        with self.read_back(sample) as opened:
            for name in ("contiguous", "chunked", "gzip"):
                assert opened[name][()].tobytes() == wanted

    def test_a_dataset_grows_where_it_may(self, own: WritingStore, sample: Path) -> None:
        array = np.arange(750, dtype="<i4").reshape(25, 30)
        with array_file(array) as lent:
            may, ranges = object_at(own, "chunked").ref, ((20 * 120, 25 * 120),)
            assert own.change_array(may, lent, ranges)
            assert read(own, may, ArrayPart.ELEMENTS, 0, array.nbytes) == array.tobytes()
            assert not own.change_array(object_at(own, "gzip").ref, lent, ranges)
        own.close()
        with self.read_back(sample) as opened:
            assert (opened["chunked"][...] == array).all()
            assert opened["gzip"].shape == (20, 30)

    def test_sequences_are_written(self, own: WritingStore, sample: Path) -> None:
        values, offsets = np.arange(6, dtype="<i2"), np.array([0, 4, 4, 6])
        with array_file(values) as values_file, array_file(offsets) as offsets_file:
            own.write_sequences(own.root().ref, b"new", values_file, offsets_file)
        own.close()
        with self.read_back(sample) as opened:
            assert [row.tolist() for row in opened["new"][...]] == [[0, 1, 2, 3], [], [4, 5]]

    def test_attributes_are_written_and_deleted_in_one_step(
        self, own: WritingStore, sample: Path
    ) -> None:
        ref = object_at(own, "contiguous").ref
        count = next(each for each in own.read_attributes(ref) if each.name == b"count")
        assert isinstance(count, Attribute)
        new = Attribute(b"new", count.type, (2,), (b"\1\0", b"\2\0"))
        own.write_attributes(ref, (new,), (b"units", b"rate"))
        assert {each.name for each in own.read_attributes(ref)} == {b"count", b"new"}
        own.close()
        with self.read_back(sample) as opened:
            assert dict(opened["contiguous"].attrs).keys() == {"count", "new"}
            assert opened["contiguous"].attrs["new"].tolist() == [1, 2]

    def test_links_are_created_moved_and_deleted(self, own: WritingStore, sample: Path) -> None:
        root, group = own.root().ref, object_at(own, "group").ref
        own.create_link(root, Link(b"s", LinkKind.SOFT, soft_target=b"/any/where"))
        own.create_link(
            root,
            Link(b"e", LinkKind.EXTERNAL, external_file=b"x.h5", external_path=b"/d"),
        )
        own.create_link(group, Link(b"h", LinkKind.HARD, target=object_at(own, "gzip")))
        with pytest.raises(ExistsError):
            own.create_link(root, Link(b"s", LinkKind.SOFT, soft_target=b"/b"))
        own.move_link(root, b"chunked", group, b"moved")
        own.move_link(root, b"gzip", root, b"contiguous")
        own.move_link(root, b"again", root, b"again")  # which changes nothing
        own.delete_link(root, b"scalar")
        for name in (b"scalar", b"chunked", b"gzip", b"never"):
            with pytest.raises(NotFoundError):
                own.delete_link(root, name)
            with pytest.raises(NotFoundError):
                own.get_link(root, name)
        own.close()
        with self.read_back(sample) as opened:
            assert opened.get("s", getlink=True).path == "/any/where"
            assert opened.get("e", getlink=True).filename == "x.h5"
            assert opened["group/h"] == opened["contiguous"] != opened["again"]
            assert opened["group/moved"].chunks == (4, 30)
            assert "scalar" not in opened

    def test_an_object_that_is_held_outlives_its_links(self, own: WritingStore) -> None:
        ref = object_at(own, "gzip").ref
        data = read(own, ref, ArrayPart.ELEMENTS, 0, 2400)
        own.hold(ref)
        own.hold(ref)
        own.delete_link(own.root().ref, b"gzip")
        own.let_go(ref)
        assert read(own, ref, ArrayPart.ELEMENTS, 0, 2400) == data
        own.let_go(ref)
        assert [link.name for link in Links(own.list_links(own.root().ref))].count(b"gzip") == 0

    def test_a_reserved_array_is_there_when_it_is_finished(
        self, own: WritingStore, sample: Path
    ) -> None:
        root, array = own.root().ref, np.arange(2**16, dtype="<f8")
        region = own.reserve_array(root, array.shape, array.dtype)
        if region is None:
            pytest.skip("this store takes no array piece by piece")
        data = memoryview(array.tobytes())
        own.write_region(region, data[: region.size_bytes], 0)
        back = bytearray(1000)
        own.read_region(region, memoryview(back), 8000)
        assert back == data[8000:9000]
        with pytest.raises(NotFoundError):
            own.get_link(root, b"new")
        own.finish_array(root, b"new", region, bytes(data[region.size_bytes :]))
        dropped = own.reserve_array(root, array.shape, array.dtype)
        assert dropped is not None
        own.drop_array(dropped)
        own.close()
        with self.read_back(sample) as opened:
            assert (opened["new"][...] == array).all()

    def test_a_refused_change_leaves_all_as_it_was(self, own: WritingStore) -> None:
        root = own.root().ref
        before = Links(own.list_links(root)).names()
        with array_file(np.arange(3)) as lent, pytest.raises(H5fsError):
            own.write_array(root, b"group", lent)
        with pytest.raises(H5fsError):
            own.move_link(root, b"no such", root, b"x")
        assert Links(own.list_links(root)).names() == before

    def test_what_leads_to_no_object_is_missing(self, own: WritingStore) -> None:
        own.create_group(own.root().ref, b"new")
        paths = (b"/new", b"/group/inner", b"/never", b"/group/never", b"/")
        assert own.find_missing(paths) == (b"/never", b"/group/never")
        assert own.find_missing(()) == ()

    def test_a_datatype_is_committed_once(self, own: WritingStore, sample: Path) -> None:
        root = own.root().ref
        datatype = own.describe_datatype(object_at(own, "type").ref)
        made = own.create_datatype(root, b"new", datatype)
        assert made.kind is ObjectKind.DATATYPE
        assert own.describe_datatype(made.ref) == datatype
        with pytest.raises(ExistsError):
            own.create_datatype(root, b"gzip", datatype)
        own.close()
        with self.read_back(sample) as opened:
            assert opened["new"].dtype == "<i8"

    def test_the_hidden_group_is_in_no_listing_and_outlives_the_store(
        self, own: WritingStore, sample: Path
    ) -> None:
        assert own.hidden_group(makes=False) is None
        hidden = own.hidden_group()
        assert hidden is not None
        own.create_group(hidden, b"kept")
        names = Links(own.list_links(own.root().ref)).names()
        assert hidden.path.strip(b"/") not in names
        own.close()
        with closing(self.open_store(sample)) as again:
            found = again.hidden_group(makes=False)
            assert found is not None
            assert Links(again.list_links(found)).names() == [b"kept"]
            again.remove_hidden()
            again.remove_hidden()
            assert again.hidden_group(makes=False) is None

    def test_what_is_done_is_there_in_the_next_store(self, own: WritingStore, sample: Path) -> None:
        own.create_group(own.root().ref, b"new")
        own.close()
        with closing(self.open_store(sample)) as again:
            assert object_at(again, "new").kind is ObjectKind.GROUP

    def test_many_threads_change_at_once(self, own: WritingStore, sample: Path) -> None:
        root = own.root().ref

        def work(number: int) -> int:
            group = own.create_group(root, b"of %d" % number).ref
            made = 0
            for i in range(5):
                with array_file(np.arange(number + i)) as lent:
                    own.write_array(group, b"%d" % i, lent)
                try:
                    own.create_group(root, b"shared %d" % i)
                    made += 1
                except ExistsError:
                    continue
            own.delete_link(group, b"0")
            own.move_link(group, b"1", group, b"moved")
            return made

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(work, range(8))) == 5
        own.close()
        with self.read_back(sample) as opened:
            for number in range(8):
                found = opened[f"of {number}"]
                assert set(found) == {"moved", "2", "3", "4"}
                assert found["moved"].shape == (number + 1,)
                assert found["4"][()].tolist() == list(range(number + 4))

    def test_a_commit_is_no_change(self, own: WritingStore, sample: Path) -> None:
        root = own.root().ref
        own.create_group(root, b"new")
        own.commit(False)
        own.commit(True)
        assert object_at(own, "new").kind is ObjectKind.GROUP
        own.close()
        with self.read_back(sample) as opened:
            assert "new" in opened


@contextmanager
def array_file(array: np.ndarray[Any, Any]) -> Iterator[ArrayFile]:
    """Lend an array to a store, as the ``.npy`` file that a program has written."""
    with tempfile.TemporaryFile() as file:
        np.save(file, array, allow_pickle=False)
        size_bytes = file.tell()
        file.seek(0)
        header = parse_header(file.read(min(size_bytes, 2**16)))
        assert header is not None
        yield ArrayFile(
            file.fileno(), size_bytes, header.shape, header.dtype, header.is_fortran_order,
            header.size_bytes,
        )  # fmt: skip


def replace_path(ref: ObjectRef, path: bytes) -> ObjectRef:
    """Return a ref that no object of the store has."""
    return ObjectRef(ref.file, ref.id + 1, path)

"""Many small objects answered at once, as they are answered alone; through real workers."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from support.hostile import HEAP_LOOPS, write_looping_heap
from support.stores import STARTER
from support.waiting import PATIENCE_SECONDS

from h5fs.cli.commands.without_mount import opened_tree
from h5fs.cli.entries.tree_entries import Extent, entry_at, fill, listing_habits
from h5fs.daemon.open_tree import folder_tree
from h5fs.errors import H5fsError, UnreadableError
from h5fs.model.link_table import Links
from h5fs.model.objects import ObjectRef
from h5fs.model.settings import Limits, LogOptions, MountOptions, StoreOptions
from h5fs.projection.json.attribute_file import attributes_to_json
from h5fs.store.ahead import objects_ahead
from h5fs.store.hdf5.store import Hdf5Store
from h5fs.store.interface import ArrayPart
from h5fs.store.library_interface import MOST_DATA_AHEAD_BYTES, Look
from h5fs.store.worker_stores.worker_store import WorkerStore
from h5fs.store.workers.connection import WorkerConnection
from h5fs.store.workers.starting.worker_starter import WorkerStarter
from h5fs.tree.dentries import Dentries
from h5fs.tree.folders.folder_tree import FolderTree
from h5fs.tree.tree import Tree


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Count the requests to workers, by method.

    Questions wait for a batch that has their object, however slow the machine is now: one that is
    late would be asked for alone, as it should, and counted.
    """
    counts: Counter[str] = Counter()
    call = WorkerConnection.call

    def counting(self: WorkerConnection, method: str, *arguments: Any, **others: Any) -> Any:
        counts[method] += 1
        return call(self, method, *arguments, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkerConnection, "call", counting)
        patch.setattr(objects_ahead, "_PATIENCE_SECONDS", 60)
        yield counts


def write_many(file: Path, count: int) -> None:
    with h5py.File(file, "w") as opened:
        group = opened.create_group("many")
        for number in range(count):
            layout = {"compression": "gzip"} if number % 2 else {}
            data = np.arange(number, number + 100.0)
            dataset = group.create_dataset(f"d{number:04d}", data=data, **layout)
            dataset.attrs["units"], dataset.attrs["rate"] = "mV", 2.5 * number


def read_tree(tree: Tree | FolderTree, folder: bytes) -> dict[bytes, bytes]:
    """Return what ``cp -r`` copies: sizes and bytes agree."""
    found = {}
    for dentry in sorted(tree.list_folder(folder), key=lambda dentry: dentry.inode):
        path = folder + b"/" + dentry.name
        size = tree.get_status(path).size_bytes
        handle = tree.open(path, 0)
        buffer = bytearray(size + 10)
        count = tree.read_into(handle, memoryview(buffer), 0)
        found[dentry.name] = bytes(buffer[:count])
        tree.release(handle)
        assert len(found[dentry.name]) == size
    return found


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is read ahead be waited for, however busy the machine is: requests are counted."""
    monkeypatch.setattr(objects_ahead, "_PATIENCE_SECONDS", PATIENCE_SECONDS)


@contextmanager
def opened(file: Path, **settings: Any) -> Iterator[WorkerStore]:
    store = WorkerStore(StoreOptions(file, **settings), STARTER)
    with closing(store):
        store.open()
        yield store


@pytest.mark.usefixtures("patient")
@pytest.mark.semantics("W20")
def test_a_copy_of_many_small_datasets_takes_few_requests(tmp_path: Path) -> None:
    write_many(tmp_path / "f.h5", 400)
    with counted_calls() as counts, opened(tmp_path / "f.h5") as store:
        found = read_tree(Tree(store), b"/many")
    assert len(found) == 800
    others = counts.total() - counts["look_ahead"]
    assert others < 20, counts
    assert counts["look_ahead"] < 200, counts
    with h5py.File(tmp_path / "f.h5") as truth:
        for name, dataset in truth["many"].items():
            assert found[name.encode() + b".npy"].endswith(dataset[...].tobytes())
            text = found[name.encode() + b".attrs.json"]
            assert f'"rate": {dataset.attrs["rate"]}'.encode() in text


@pytest.mark.usefixtures("patient")
def test_a_tree_with_how_all_is_stored_takes_few_requests(tmp_path: Path) -> None:
    write_many(tmp_path / "f.h5", 300)
    with counted_calls() as counts, opened(tmp_path / "f.h5") as store:
        tree = Tree(store)
        names = [dentry.name for dentry in tree.list_folder(b"/many")]
        arrays = [b"/many/" + name for name in names if name.endswith(b".npy")]
        found = [tree.describe(path) for path in arrays]
    assert counts.total() < 60, counts
    with h5py.File(tmp_path / "f.h5") as truth:
        for path, description in zip(arrays, found, strict=True):
            dataset = truth[path.decode().removesuffix(".npy")]
            assert description.storage is not None
            assert description.storage.chunk_shape == dataset.chunks
            assert description.storage.storage_size_bytes == dataset.id.get_storage_size()


FILES = 20


@contextmanager
def opened_folder(folder: Path) -> Iterator[FolderTree]:
    """Open a folder of small files as a mount does."""
    for number in range(FILES):
        write_many(folder / f"f{number:02d}.h5", 10)
    starter = WorkerStarter()
    starter.start()
    options = MountOptions(folder / "mnt", StoreOptions(folder), LogOptions(), is_folder=True)
    with closing(starter), closing(folder_tree(options, starter)) as tree:
        yield tree


@pytest.mark.usefixtures("patient")
@pytest.mark.semantics("W20")
def test_a_file_of_a_folder_takes_three_requests_of_who_goes_through_them(tmp_path: Path) -> None:
    with counted_calls() as counts, opened_folder(tmp_path) as tree:
        texts = {
            path: tree.get_status(path).size_bytes
            for number in range(FILES)
            for path in every_file(tree, b"/f%02d.h5/many" % number)
        }
    assert len(texts) == 2 * 10 * FILES
    assert counts["root"] == counts["list_links"] == FILES
    assert counts.total() < 4 * FILES + 5, counts  # of the first file a few more


@pytest.mark.usefixtures("patient")
def test_a_copy_of_a_folder_takes_few_requests_of_each_file(tmp_path: Path) -> None:
    with counted_calls() as counts, opened_folder(tmp_path) as tree:
        for number in range(FILES):
            assert len(read_tree(tree, b"/f%02d.h5/many" % number)) == 20
    assert counts["read_attributes"] < 2 * FILES, counts
    assert counts.total() < 7 * FILES, counts


@pytest.mark.usefixtures("patient")
@pytest.mark.semantics("W20")
def test_a_file_of_a_folder_takes_two_requests_for_its_names(tmp_path: Path) -> None:
    with counted_calls() as counts, opened_folder(tmp_path) as tree:
        for number in range(FILES):
            assert len(list(every_file(tree, b"/f%02d.h5/many" % number))) == 20
    assert set(counts) <= {"root", "list_links", "get_link"}, counts


def every_file(tree: FolderTree, folder: bytes) -> Iterator[bytes]:
    for dentry in tree.list_folder(folder):
        yield folder + b"/" + dentry.name


@pytest.mark.usefixtures("patient")
@pytest.mark.semantics("W20")
def test_a_tree_of_a_file_takes_few_requests_with_attributes_too(tmp_path: Path) -> None:
    write_many(tmp_path / "f.h5", 300)
    options = StoreOptions(tmp_path / "f.h5", workers=1)
    with counted_calls() as counts, opened_tree(options, habits=listing_habits()) as tree:
        top = entry_at(b"/")
        fill(tree, top, Extent(depth=None, has_attrs=True), 0)
    assert counts.total() < 60, counts
    assert top.entries is not None and top.entries[0].entries is not None
    entries = top.entries[0].entries
    assert [entry.attrs for entry in entries] == [
        {"units": "mV", "rate": 2.5 * number} for number in range(300)
    ]
    assert all((entry.layout == "chunked") is bool(entry.filters) for entry in entries)


@pytest.mark.semantics("W20")
def test_names_alone_take_no_look_at_objects(tmp_path: Path) -> None:
    write_many(tmp_path / "f.h5", 100)
    with counted_calls() as counts, opened(tmp_path / "f.h5") as store:
        tree = Tree(store)
        assert len(list(tree.list_folder(b"/many"))) == 200
    assert set(counts) <= {"root", "list_links", "get_link"}


@pytest.mark.semantics("W20")
@pytest.mark.usefixtures("hangs_at_any_load")
def test_reading_ahead_where_the_library_hangs_holds_up_no_neighbour(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "f.h5"
    write_looping_heap(file, HEAP_LOOPS[0], is_attribute=True)
    with h5py.File(file, "r+") as changed:
        for number in range(40):
            name = f"{'a' if number < 20 else 'z'}{number}"
            changed[name] = np.arange(5)
            changed[name].attrs["number"] = number
    with opened(file, limits=Limits(deadline_seconds=2)) as store:
        tree = Tree(store)
        texts = {}
        for dentry in tree.list_folder(b"/"):
            if dentry.name.endswith(b".attrs.json") and dentry.name[:1] in b"az":
                handle = tree.open(b"/" + dentry.name, 0)
                texts[dentry.name] = tree.read(handle, 1000, 0)
        assert len(texts) == 40
        assert all(b'"number": ' in text for text in texts.values())
        assert "quarantined" not in caplog.text  # nobody has asked for it
        with pytest.raises(UnreadableError, match="no answer within"):
            tree.open(b"/loop.attrs.json", 0)
        assert caplog.text.count("quarantined: ") == 1


def write_compact(file: Path, count: int, libver: str, user_block: int) -> None:
    with h5py.File(file, "w", libver=libver, userblock_size=user_block) as opened:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_layout(h5d.COMPACT)
        for number in range(count):
            name = b"d%03d" % number
            made = h5d.create(opened.id, name, h5t.IEEE_F64LE, h5s.create_simple((7,)), creation)
            h5py.Dataset(made)[:] = np.arange(7.0) + number


@pytest.mark.semantics("D1")
@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("user_block", [0, 1024])
def test_compact_arrays_of_a_listed_group_are_read_without_a_worker(
    tmp_path: Path, libver: str, user_block: int
) -> None:
    write_compact(tmp_path / "f.h5", 30, libver, user_block)
    with counted_calls() as counts, opened(tmp_path / "f.h5") as store:
        found = read_tree(Tree(store), b"")
    assert set(counts) == {"root", "list_links"}
    for number in range(30):
        expected = np.arange(7.0) + number
        assert np.array_equal(np.load(io.BytesIO(found[b"d%03d.npy" % number])), expected)


def test_compact_data_of_another_size_are_left_to_the_library(tmp_path: Path) -> None:
    write_compact(tmp_path / "f.h5", 30, "earliest", 0)
    content = bytearray((tmp_path / "f.h5").read_bytes())
    data = np.arange(7.0).tobytes()
    assert content.count(data) == 1
    size_at = content.index(data) - 2
    assert content[size_at : size_at + 2] == (56).to_bytes(2, "little")
    content[size_at : size_at + 2] = (48).to_bytes(2, "little")
    (tmp_path / "f.h5").write_bytes(content)
    with opened(tmp_path / "f.h5") as store:
        tree = Tree(store)
        tree.list_folder(b"/")
        with pytest.raises(H5fsError):
            tree.read(tree.open(b"/d000.npy", 0), 1000, 0)
        assert len(tree.read(tree.open(b"/d001.npy", 0), 1000, 0)) == 128 + 56


def write_all_kinds(file: Path) -> None:
    with h5py.File(file, "w") as made:
        numbers = np.arange(600, dtype="<i4").reshape(20, 30)
        made["contiguous"] = numbers
        made.create_dataset("gzip", data=numbers, chunks=(7, 11), compression="gzip", shuffle=True)
        made.create_dataset("large", data=np.zeros(MOST_DATA_AHEAD_BYTES + 1, "u1"), chunks=(1000,))
        made.create_dataset("never", (40, 40), ">f4", chunks=(8, 8), fillvalue=2.5)
        made.create_dataset("texts", data=["ä", "", "three"], dtype=h5py.string_dtype())
        made.create_dataset("many texts", (10_000,), h5py.string_dtype())
        made["null"], made["scalar"] = h5py.Empty("<f4"), 4.25
        made.create_dataset("nothing", (0, 3), "<u2", chunks=(1, 1), maxshape=(None, 3))
        made["fixed"] = np.array([b"ab", b"", b"abcde"], "S5")
        sequences = made.create_dataset("sequences", (3,), h5py.vlen_dtype("<i4"))
        sequences[0] = [1, 2, 3]
        made.create_dataset("damaged", data=numbers, chunks=(20, 30), compression="gzip")
        made["damaged"].id.write_direct_chunk((0, 0), b"no zlib stream")
        short = zlib.compress(b"too short")
        made.create_dataset("short", data=numbers, chunks=(20, 30), compression="gzip")
        made["short"].id.write_direct_chunk((0, 0), short)
        made.create_dataset("short of several", data=numbers, chunks=(5, 30), compression="gzip")
        made["short of several"].id.write_direct_chunk((5, 0), short)
        made["type"] = np.dtype("<i8")
        group = made.create_group("group")
        for owner in (*made.values(), group):
            owner.attrs["name"] = owner.name
        made["gzip"].attrs.create("region", made["gzip"].regionref[2:4], dtype=h5py.regionref_dtype)
        made["contiguous"].attrs["reference"] = made["gzip"].ref
        for number in range(100):
            made["fixed"].attrs[f"a{number}"] = number
        layout = h5py.VirtualLayout((5,), "<i4")
        layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (5,))
        made.create_virtual_dataset("virtual", layout)


def test_what_is_said_at_once_is_what_is_said_alone(tmp_path: Path) -> None:
    write_all_kinds(tmp_path / "f.h5")
    with closing(Hdf5Store(StoreOptions(tmp_path / "f.h5"))) as store:
        store.open()
        refs = refs_below(store, store.root().ref)
        left = [Look(ref, *[True] * 4) for ref in refs]
        answered = {}
        while left:
            details = store.look_ahead(tuple(left))
            answered |= dict(zip((look.ref for look in left), details, strict=False))
            assert details
            del left[: len(details)]
        names = {ref.path.decode(): details for ref, details in answered.items()}
        for ref, details in answered.items():
            check_against_alone(store, ref, details)
    left_out = {name for name, details in names.items() if details.dataset is None}
    assert left_out == {"/group", "/type", "/many texts", "/virtual"}
    without_data = {name for name, details in names.items() if details.data is None}
    assert without_data - left_out == {
        "/large", "/null", "/nothing", "/sequences", "/damaged", "/short", "/short of several",
    }  # fmt: skip
    assert {name for name, details in names.items() if details.attributes is None} == {"/fixed"}


def refs_below(store: Hdf5Store, group: ObjectRef) -> list[ObjectRef]:
    return [link.target.ref for link in Links(store.list_links(group)) if link.target is not None]


def check_against_alone(store: Hdf5Store, ref: ObjectRef, details: Any) -> None:
    if details.attributes is not None:
        assert details.attributes == attributes_to_json(store.read_attributes(ref))
    if details.dataset is not None:
        assert details.dataset == store.describe_dataset(ref)
    assert (details.storage is None) == (details.dataset is None and ref.path != b"/many texts")
    if details.storage is not None:
        assert details.storage == store.describe_storage(ref)
    if details.data is not None:
        size = len(details.data)
        assert details.data == bytes(store.read_data(ref, ArrayPart.ELEMENTS, 0, size))


def test_a_look_at_an_object_that_is_gone_is_no_error(tmp_path: Path) -> None:
    write_many(tmp_path / "f.h5", 3)
    with closing(Hdf5Store(StoreOptions(tmp_path / "f.h5"))) as store:
        store.open()
        gone = ObjectRef(0, 12345, b"/many/gone")
        (details,) = store.look_ahead((Look(gone, attributes=True, dataset=True, data=True),))
        assert (details.attributes, details.dataset, details.data) == (None, None, None)
        with pytest.raises(H5fsError):
            store.describe_dataset(gone)


def sizes_of_attribute_files(dentries: Dentries) -> dict[bytes, int]:
    """Return those that came with a listing."""
    rows = zip(dentries.names, dentries.rows, strict=True)
    return {
        name: int(row["size_bytes"])
        for name, row in rows
        if name.endswith(b".attrs.json") and row["has_status"]
    }


@pytest.mark.semantics("W20")
def test_a_listing_has_sizes_of_attribute_files_while_a_program_asks_for_them(
    tmp_path: Path,
) -> None:
    write_many(tmp_path / "f.h5", 300)
    with h5py.File(tmp_path / "f.h5", "r+") as changed:
        changed.copy("many", "more")
    with counted_calls() as counts, opened(tmp_path / "f.h5") as store:
        tree = Tree(store)
        many = tree.list_folder(b"/many")
        names = [name for name in many.names if name.endswith(b".attrs.json")]
        many.complete(0, len(many))
        assert not sizes_of_attribute_files(many)
        assert not counts["look_ahead"]  # so far for names alone
        sizes = {name: tree.get_status(b"/many/" + name).size_bytes for name in names[:4]}
        many.complete(0, len(many))
        assert len(sizes_of_attribute_files(many)) > len(names) // 2  # those that came in time
        sizes |= {name: tree.get_status(b"/many/" + name).size_bytes for name in names}
        for _ in range(len(names)):
            tree.get_status(b"/many/" + names[0])  # as if each had been asked for
        more = tree.list_folder(b"/more")
        more.complete(0, len(more))
        assert len(sizes_of_attribute_files(more)) > len(names) // 2
        assert counts["look_ahead"] < 100, counts
        for name, size in sizes.items():
            array = b"/many/" + name.replace(b".attrs.json", b".npy")
            assert size == len(tree.read_attribute_text(array))
        for dentries in (many, more):
            assert sizes_of_attribute_files(dentries).items() <= sizes.items()

"""What a process removes and makes anew is written over what it has removed: without a mount."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import (
    NEW,
    killed_tree,
    names,
    read,
    read_handle,
    save,
    store_of,
    writable_tree,
)

from h5fs.errors import ExistsError, H5fsError, NotFoundError
from h5fs.tree import WritableTree

US = os.getpid()
OTHER = os.getppid()
VALUES = np.arange(6.0).reshape(2, 3)
OLD, NEWER, LONGER = npy_bytes(VALUES), npy_bytes(VALUES + 1), npy_bytes(np.ones((5, 3)))
OTHER_RANK = npy_bytes(np.arange(4))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as made:
        made.create_dataset("e", data=VALUES)
        made.create_dataset(
            "d", data=VALUES, chunks=(1, 3), maxshape=(None, 3), compression="gzip", fillvalue=7
        )
        made["d"].attrs["units"] = "m"
        made["g/refs"] = np.array([made["d"].ref], h5py.ref_dtype)
        made["g/refs"].attrs["to"] = made["d"].ref
    return path


def as_json(**values: Any) -> bytes:
    return json.dumps(values).encode()


def make(tree: WritableTree, path: bytes, data: bytes, pid: int = US) -> None:
    """Make a new file, as a process does that insists on making it."""
    handle = tree.create(path, NEW | os.O_EXCL, pid)
    try:
        tree.write(handle, memoryview(data), 0)
        tree.flush(handle, pid)
    finally:
        tree.release(handle)


def make_anew(tree: WritableTree, path: bytes, data: bytes) -> None:
    """Replace a file as GNU tar does."""
    tree.unlink(path, US)
    make(tree, path, data)


def is_storage_kept(made: h5py.Dataset) -> bool:
    layout = made.chunks, made.maxshape, made.compression, made.fillvalue
    return layout == ((1, 3), (None, 3), "gzip", 7)


@pytest.fixture
def tree(file: Path) -> Iterator[WritableTree]:
    with writable_tree(file) as opened:
        yield opened


@pytest.mark.semantics("R28")
@pytest.mark.parametrize("data", [OLD, NEWER, LONGER])
def test_an_array_made_anew_keeps_what_is_not_in_its_file(file: Path, data: bytes) -> None:
    with writable_tree(file) as tree:
        tree.unlink(b"/d.npy", US)
        assert names(tree) == {b"e.npy", b"g"}
        make(tree, b"/d.npy", data)
        assert read(tree, b"/d.npy") == data
        assert tree.get_status(b"/d.npy").hard_link_count == 1
        assert json.loads(read(tree, b"/d.attrs.json")) == {"units": "m"}
    with h5py.File(file) as opened:
        assert is_storage_kept(opened["d"])
        assert opened[opened["g/refs"][0]] == opened["d"] == opened[opened["g/refs"].attrs["to"]]


@pytest.mark.semantics("R28")
@pytest.mark.parametrize("data", [OLD, LONGER, OTHER_RANK])
@pytest.mark.parametrize("is_array_first", [False, True])
def test_attributes_written_before_their_array_is_made_anew_are_those_of_the_new_one(
    file: Path, data: bytes, is_array_first: bool
) -> None:
    text = as_json(units="s", n=3)
    files = [(b"/d.npy", data), (b"/d.attrs.json", text)]
    with writable_tree(file) as tree:
        for path, content in files if is_array_first else reversed(files):
            make_anew(tree, path, content)
        assert json.loads(read(tree, b"/d.attrs.json")) == {"units": "s", "n": 3}
    with h5py.File(file) as opened:
        assert dict(opened["d"].attrs) == {"units": "s", "n": 3}


@pytest.mark.semantics("R28")
def test_attributes_written_between_are_those_of_the_new_array(file: Path) -> None:
    with writable_tree(file) as tree:
        tree.unlink(b"/d.npy", US)
        save(tree, b"/d.attrs.json", as_json(n=4))
        assert json.loads(read(tree, b"/d.attrs.json")) == {"n": 4}
        make(tree, b"/d.npy", OLD)
        assert json.loads(read(tree, b"/d.attrs.json")) == {"n": 4}
    with h5py.File(file) as opened:
        assert is_storage_kept(opened["d"])
        assert dict(opened["d"].attrs) == {"n": 4}


@pytest.mark.semantics("R28")
def test_what_others_have_done_to_the_attributes_stays(file: Path) -> None:
    with writable_tree(file) as tree:
        make_anew(tree, b"/d.attrs.json", as_json(units="s"))
        tree.change_attributes(b"/d.npy", {b"by_others": b"1"})
        make_anew(tree, b"/d.npy", OLD)
        make_anew(tree, b"/e.npy", OLD)
    with h5py.File(file) as opened:
        assert dict(opened["d"].attrs) == {"units": "s", "by_others": 1}
        assert not opened["e"].attrs


@pytest.mark.semantics("R28")
def test_attributes_that_were_refused_leave_those_that_there_were(file: Path) -> None:
    with writable_tree(file) as tree:
        with pytest.raises(H5fsError):
            save(tree, b"/d.attrs.json", b"{bad")
        make_anew(tree, b"/d.npy", OLD)
    with h5py.File(file) as opened:
        assert dict(opened["d"].attrs) == {"units": "m"}


@pytest.mark.semantics("R28")
def test_without_its_attributes_an_array_is_made_anew_without_them(file: Path) -> None:
    with writable_tree(file) as tree:
        save(tree, b"/d.attrs.json", as_json(units="s"))
        tree.unlink(b"/d.attrs.json", US)
        make_anew(tree, b"/d.npy", OLD)
    with h5py.File(file) as opened:
        assert not opened["d"].attrs


@pytest.mark.semantics("R28", "R11")
@pytest.mark.parametrize(
    "case",
    [
        "another process", "not known", "a name between", "a folder between", "a link between",
        "a folder moved there between", "another name", "ended", "moved",
    ],
)  # fmt: skip
def test_what_is_not_made_anew_by_who_has_removed_it_is_a_new_object(file: Path, case: str) -> None:
    path, remover, maker = b"/d.npy", US, US
    if case == "another process":
        maker = OTHER
    elif case == "not known":
        remover = maker = 0
    elif case == "ended":
        with subprocess.Popen(["true"]) as ended:
            remover = maker = ended.pid
    with writable_tree(file) as tree:
        if case == "ended":
            make(tree, b"/f.npy", OLD)
        tree.unlink(path, remover)
        if case == "a name between":
            make(tree, b"/d.npy", NEWER, OTHER)
            tree.unlink(b"/d.npy", OTHER)
        elif case == "another name":
            path = b"/g/d.npy"
        elif case == "ended":
            tree.unlink(b"/e.npy", US)
        if case == "a folder between":
            tree.make_folder(b"/d")
            tree.remove_folder(b"/d")
        elif case == "a link between":
            tree.make_symbolic_link(b"e.npy", b"/d.npy")
            tree.unlink(b"/d.npy", OTHER)
        elif case == "a folder moved there between":
            tree.rename(b"/g", b"/d", 0, OTHER)
            tree.rename(b"/d", b"/g", 0, OTHER)
        if case == "moved":
            tree.rename(b"/e.npy", path, 0, US)
        else:
            make(tree, path, OLD, maker)
    with h5py.File(file) as opened:
        made = opened["g/d" if case == "another name" else "d"]
        assert not made.attrs
        assert made.chunks is None


@pytest.mark.semantics("R28")
@pytest.mark.parametrize("way", ["rm", "mv"])
@pytest.mark.parametrize("has_twin", [False, True])
def test_attributes_that_waited_and_are_removed_are_not_those_of_the_new_array(
    file: Path, way: str, has_twin: bool
) -> None:
    with writable_tree(file) as tree:
        if has_twin:
            tree.make_hard_link(b"/d.npy", b"/twin.npy")
        tree.unlink(b"/d.npy", US)
        save(tree, b"/d.attrs.json", as_json(n=4))
        if way == "rm":
            tree.unlink(b"/d.attrs.json", US)
        else:
            tree.rename(b"/d.attrs.json", b"/e.attrs.json", 0, US)
        make(tree, b"/d.npy", LONGER)
        with pytest.raises(NotFoundError):
            tree.get_status(b"/d.attrs.json")
    with h5py.File(file) as opened:
        assert not opened["d"].attrs
        assert has_twin or is_storage_kept(opened["d"])
        assert dict(opened["e"].attrs) == ({} if way == "rm" else {"n": 4})
        assert not has_twin or dict(opened["twin"].attrs) == {"units": "m"}


@pytest.mark.semantics("R28")
@pytest.mark.parametrize("place", ["written after they are removed", "renamed and back"])
def test_attributes_that_wait_again_are_those_of_the_new_array(file: Path, place: str) -> None:
    with writable_tree(file) as tree:
        tree.unlink(b"/d.npy", US)
        save(tree, b"/d.attrs.json", as_json(n=4))
        if place == "renamed and back":
            tree.rename(b"/d.attrs.json", b"/d.attrs.json~", 0, US)
            tree.rename(b"/d.attrs.json~", b"/d.attrs.json", 0, US)
        else:
            make_anew(tree, b"/d.attrs.json", as_json(n=4))
        make(tree, b"/d.npy", OLD)
    with h5py.File(file) as opened:
        assert is_storage_kept(opened["d"])
        assert dict(opened["d"].attrs) == {"n": 4}


@pytest.mark.semantics("R28")
@pytest.mark.parametrize("refused", ["junk", "missing", "folder"])
def test_a_refused_rename_takes_no_name(file: Path, refused: str) -> None:
    with writable_tree(file) as tree:
        with pytest.raises(H5fsError):
            make(tree, b"/junk.npy", b"junk")
        tree.unlink(b"/d.npy", US)
        old = {"junk": b"/junk.npy", "missing": b"/missing.npy", "folder": b"/g"}[refused]
        with pytest.raises(H5fsError):
            tree.rename(old, b"/d.npy", 0, US)
        make(tree, b"/d.npy", LONGER)
        tree.unlink(b"/junk.npy", US)
    with h5py.File(file) as opened:
        assert is_storage_kept(opened["d"])
        assert dict(opened["d"].attrs) == {"units": "m"}


@pytest.mark.semantics("R28")
def test_a_file_that_is_renamed_away_before_it_is_an_array_takes_nothing_along(file: Path) -> None:
    with writable_tree(file) as tree:
        with pytest.raises(H5fsError):
            make_anew(tree, b"/d.npy", b"junk")
        tree.rename(b"/d.npy", b"/d.npy~", 0, US)
        make(tree, b"/d.npy", LONGER)
        tree.unlink(b"/d.npy~", US)
    with h5py.File(file) as opened:
        assert is_storage_kept(opened["d"])
        assert dict(opened["d"].attrs) == {"units": "m"}


@pytest.mark.semantics("R28")
def test_several_objects_may_be_removed_before_they_are_made_anew(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened["e"].attrs["n"] = 1
    with writable_tree(file) as tree:
        for path in (b"/e.npy", b"/d.npy", b"/g/refs.npy"):
            tree.unlink(path, US)
        make(tree, b"/other.npy", OLD)
        for path in (b"/d.npy", b"/e.npy"):
            make(tree, path, LONGER)
    with h5py.File(file) as opened:
        assert is_storage_kept(opened["d"])
        assert dict(opened["d"].attrs) == {"units": "m"}
        assert dict(opened["e"].attrs) == {"n": 1}
        assert not opened["other"].attrs


@pytest.mark.semantics("R28")
@pytest.mark.parametrize("way", ["rmdir", "mv"])
def test_a_folder_that_is_made_anew_has_nothing_of_what_was_in_the_one_before(
    file: Path, way: str
) -> None:
    with writable_tree(file) as tree:
        tree.make_folder(b"/new")
        tree.rename(b"/d.npy", b"/new/d.npy", 0, US)
        tree.unlink(b"/new/d.npy", US)
        if way == "rmdir":
            tree.remove_folder(b"/new")
        else:
            tree.rename(b"/new", b"/old", 0, US)
        tree.make_folder(b"/new")
        make(tree, b"/new/d.npy", OLD)
    with h5py.File(file) as opened:
        assert not opened["new/d"].attrs


@pytest.mark.semantics("R28")
@pytest.mark.parametrize("scratch", [b"/.d.npy.Ab3dEf", b"/d.tmp"])
def test_a_temporary_file_renamed_to_what_was_removed_is_written_over_it(
    file: Path, scratch: bytes
) -> None:
    with writable_tree(file) as tree:
        make(tree, scratch, LONGER)
        tree.unlink(b"/d.npy", US)
        tree.rename(scratch, b"/d.npy", 0, US)
        assert read(tree, b"/d.npy") == LONGER
    with h5py.File(file) as opened:
        assert is_storage_kept(opened["d"])
        assert dict(opened["d"].attrs) == {"units": "m"}


@pytest.mark.semantics("R28")
@pytest.mark.parametrize("is_other_removed", [False, True])
def test_the_other_names_of_what_was_removed_keep_it(file: Path, is_other_removed: bool) -> None:
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/twin.npy")
        tree.unlink(b"/d.npy", US)
        handle = tree.create(b"/d.npy", NEW, US)
        tree.write(handle, memoryview(NEWER), 0)
        if is_other_removed:
            tree.unlink(b"/twin.npy", OTHER)
        tree.flush(handle, US)
        tree.release(handle)
        assert tree.get_status(b"/d.npy").hard_link_count == 1
    with h5py.File(file) as opened:
        assert dict(opened["d"].attrs) == {"units": "m"}
        assert is_storage_kept(opened["d"])
        assert np.array_equal(opened["d"][()], VALUES + 1)
        assert ("twin" in opened) is not is_other_removed
        if not is_other_removed:
            assert np.array_equal(opened["twin"][()], VALUES)
            assert is_storage_kept(opened["twin"])
            assert opened["twin"] != opened["d"]
            assert opened[opened["g/refs"][0]] == opened["twin"]


@pytest.mark.semantics("R28", "R4")
def test_references_to_an_array_with_other_names_lead_to_the_one_that_tar_makes(file: Path) -> None:
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/twin.npy")
        array, references = read(tree, b"/d.npy"), read(tree, b"/g/refs.npy")
        attributes = read(tree, b"/g/refs.attrs.json")
        make_anew(tree, b"/d.npy", array)
        tree.unlink(b"/twin.npy", US)
        tree.make_hard_link(b"/d.npy", b"/twin.npy")
        make_anew(tree, b"/g/refs.npy", references)
        make_anew(tree, b"/g/refs.attrs.json", attributes)
        assert read(tree, b"/g/refs.npy") == references
    with h5py.File(file) as opened:
        assert is_storage_kept(opened["d"])
        assert opened["d"] == opened["twin"] == opened[opened["g/refs"][0]]
        assert opened[opened["g/refs"].attrs["to"]] == opened["d"]


@pytest.mark.semantics("R28", "R20")
def test_who_has_the_removed_array_open_goes_on_reading_it(file: Path) -> None:
    with writable_tree(file) as tree:
        reading, writing = tree.open(b"/d.npy", os.O_RDONLY, 1), tree.open(b"/d.npy", os.O_RDWR, 1)
        make_anew(tree, b"/d.npy", NEWER)
        tree.write(writing, memoryview(b"\7" * 8), len(OLD) - 8)
        assert read_handle(tree, reading) == OLD
        assert read(tree, b"/d.npy") == NEWER
        tree.flush(writing, 1)
        tree.release(writing)
        tree.release(reading)
        assert read(tree, b"/d.npy") == NEWER
    with h5py.File(file) as opened:
        assert is_storage_kept(opened["d"])
        assert dict(opened["d"].attrs) == {"units": "m"}


@pytest.mark.semantics("R28")
def test_what_is_no_array_is_refused_and_may_be_made_anew_once_more(file: Path) -> None:
    with writable_tree(file) as tree:
        with pytest.raises(H5fsError):
            make_anew(tree, b"/d.npy", OLD[:-1])
        assert names(tree) == {b"e.npy", b"g", b"d.npy"}
        assert read(tree, b"/d.npy") == OLD[:-1]
        with pytest.raises(NotFoundError):
            tree.get_status(b"/d.attrs.json")
        make_anew(tree, b"/d.npy", LONGER)
    with h5py.File(file) as opened:
        assert is_storage_kept(opened["d"])
        assert dict(opened["d"].attrs) == {"units": "m"}


@pytest.mark.semantics("R28", "R9")
def test_an_empty_file_in_the_place_of_what_was_removed_is_no_array(file: Path) -> None:
    with writable_tree(file) as tree:
        make_anew(tree, b"/d.npy", b"")
        assert tree.get_status(b"/d.npy").size_bytes == 0
    with h5py.File(file) as opened:
        assert set(opened) == {"e", "g"}


@pytest.mark.semantics("R28")
def test_what_cannot_be_written_over_the_removed_array_is_another_one(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        kind = h5py.enum_dtype({"a": 0, "b": 1}, "i1")
        opened.create_dataset("kinds", data=np.array([0, 1], "i1"), dtype=kind)
        opened["kinds"].attrs["n"] = 1
    with writable_tree(file) as tree:
        make_anew(tree, b"/kinds.npy", npy_bytes(np.array([1, 0, 1], "i1")))
    with h5py.File(file) as opened:
        assert h5py.check_enum_dtype(opened["kinds"].dtype) == {"a": 0, "b": 1}
    with writable_tree(file) as tree:
        make_anew(tree, b"/kinds.npy", npy_bytes(np.array([9], "i1")))
        assert tree.get_status(b"/kinds.npy").hard_link_count == 1
    with h5py.File(file) as opened:
        assert list(opened["kinds"]) == [9]
        assert dict(opened["kinds"].attrs) == {"n": 1}


@pytest.mark.semantics("R28", "R13")
def test_a_committed_datatype_that_is_made_anew_stays_that_of_its_datasets(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened["t"] = np.dtype("f8")
        opened["t"].attrs["n"] = 1
        opened.create_dataset("of_t", data=VALUES, dtype=opened["t"])
    with writable_tree(file) as tree:
        old = read(tree, b"/t.dtype.json")
        make_anew(tree, b"/t.dtype.json", old)
    with h5py.File(file) as opened:
        assert h5py.h5i.get_name(opened["of_t"].id.get_type()) == b"/t"
        assert dict(opened["t"].attrs) == {"n": 1}
    with writable_tree(file) as tree:
        make_anew(tree, b"/t.dtype.json", b'"<f4"')
    with h5py.File(file) as opened:
        assert opened["t"].dtype == np.dtype("f4")
        assert dict(opened["t"].attrs) == {"n": 1}
        assert opened["of_t"].dtype == np.dtype("f8")


@pytest.mark.semantics("R28", "R12")
@pytest.mark.parametrize("lengths", [(1, 2), (3, 1), (1, 1, 1)])
@pytest.mark.parametrize("order", ["one by one", "both first", "values first"])
def test_a_pair_that_is_made_anew_keeps_its_attributes(
    file: Path, lengths: tuple[int, ...], order: str
) -> None:
    with h5py.File(file, "a") as opened:
        made = opened.create_dataset("v", (2,), h5py.vlen_dtype("i4"), maxshape=(None,))
        made[:] = [np.arange(1), np.arange(2)]
        made.attrs["n"] = 1
        opened["g/v"] = np.array([made.ref], h5py.ref_dtype)
    values = npy_bytes(np.concatenate([np.arange(each, dtype="i4") for each in lengths]))
    offsets = npy_bytes(np.cumsum([0, *lengths]))
    files = [(b"/v.offsets.npy", offsets), (b"/v.values.npy", values)]
    if order == "values first":
        files.reverse()
    with writable_tree(file) as tree:
        if order == "both first":
            for path, _ in files:
                tree.unlink(path, US)
        for path, data in files:
            (make if order == "both first" else make_anew)(tree, path, data)
        assert read(tree, b"/v.values.npy") == values
        assert read(tree, b"/v.offsets.npy") == offsets
    with h5py.File(file) as opened:
        assert [len(each) for each in opened["v"]] == list(lengths)
        assert dict(opened["v"].attrs) == {"n": 1}


@pytest.mark.semantics("R28", "R20")
def test_a_pair_that_is_made_anew_stays_held_for_others(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened.create_dataset("v", data=[np.arange(1), np.arange(2)], dtype=h5py.vlen_dtype("i4"))
    values, offsets = npy_bytes(np.arange(2, dtype="i4")), npy_bytes(np.arange(3))
    with writable_tree(file) as tree:
        store = store_of(tree)
        handle = tree.open(b"/v.values.npy", os.O_RDONLY, OTHER)
        held = dict(store._held._counts)
        assert len(held) == 1
        for path in (b"/v.values.npy", b"/v.offsets.npy"):
            tree.unlink(path, US)
        make(tree, b"/v.values.npy", values)
        make(tree, b"/v.offsets.npy", offsets)
        assert store._held._counts == held
        tree.release(handle)
        assert not store._held._counts


@pytest.mark.semantics("R28")
def test_nothing_is_held_of_what_is_removed_for_good(file: Path) -> None:
    with writable_tree(file) as tree:
        store = store_of(tree)
        make_anew(tree, b"/d.npy", OLD)
        assert not store._held._counts
        tree.unlink(b"/d.npy", US)
        tree.unlink(b"/e.npy", US)
        tree.unlink(b"/g/refs.npy", OTHER)
        hidden = store.hidden_group()
        assert hidden is not None
        assert store.list_links(hidden).names.count(b"nameless") == 3
    with h5py.File(file) as opened:
        assert list(opened) == ["g"]
        assert list(opened["g"]) == []


@pytest.mark.semantics("R28", "U3")
def test_what_was_removed_is_gone_after_a_kill(file: Path) -> None:
    with killed_tree(file) as tree:
        tree.unlink(b"/d.npy", US)
        handle = tree.create(b"/d.npy", NEW, US)
        tree.write(handle, memoryview(OLD), 0)
    with writable_tree(file) as tree:
        assert names(tree) == {b"e.npy", b"g"}
    with h5py.File(file) as opened:
        assert list(opened) == ["e", "g"]


@pytest.mark.semantics("R28")
def test_a_name_that_another_process_has_taken_is_its_own(file: Path) -> None:
    with writable_tree(file) as tree:
        tree.unlink(b"/d.npy", US)
        make(tree, b"/d.npy", NEWER, OTHER)
        with pytest.raises(ExistsError):
            make(tree, b"/d.npy", OLD)
    with h5py.File(file) as opened:
        assert not opened["d"].attrs
        assert np.array_equal(opened["d"][()], VALUES + 1)

"""Several names of one dataset or group, some of them temporary: without a mount."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import (
    kill_worker,
    killed_tree,
    names,
    read,
    read_handle,
    save,
    store_of,
    writable_tree,
)

from h5fs.errors import EmptiedError, InvalidArrayError
from h5fs.store.hidden_names import HIDDEN_GROUP

OLD = np.arange(12.0)
ALIKE = npy_bytes(OLD + 1)
OTHER_RANK = npy_bytes(OLD.reshape(3, 4) + 1)
OTHER_TYPE = npy_bytes(np.arange(5, dtype=">i2"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        opened["d"] = OLD
        opened["d"].attrs["a"] = 1
        opened["g/x"] = OLD
        opened["g/inner/y"] = OLD
        opened["g/s"] = h5py.SoftLink("/d")
        opened["h"] = opened["g"]
    return path


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("data", [ALIKE, OTHER_RANK, OTHER_TYPE])
def test_a_temporary_name_shows_an_array_of_any_shape_that_was_written_by_the_other_name(
    file: Path, data: bytes
) -> None:
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/.d.npy.Ab3dEf")
        tree.make_hard_link(b"/d.npy", b"/d.npy~")
        save(tree, b"/d.npy", data)
        for name in (b"/.d.npy.Ab3dEf", b"/d.npy~"):
            assert read(tree, name) == data
            assert tree.get_status(name).size_bytes == len(data)
            assert tree.get_status(name).inode == tree.get_status(b"/d.npy").inode
        assert tree.get_status(b"/d.npy").hard_link_count == 3
        assert names(tree) == {
            b"d.npy", b"d.attrs.json", b".d.npy.Ab3dEf", b"d.npy~", b"g", b"h",
        }  # fmt: skip
        save(tree, b"/d.npy", OTHER_TYPE)  # and once more
        assert read(tree, b"/d.npy~") == OTHER_TYPE
        tree.rename(b"/.d.npy.Ab3dEf", b"/e.npy")
        tree.rename(b"/d.npy~", b"/d.npy")  # two names of one file: both stay
        assert read(tree, b"/d.npy~") == OTHER_TYPE
        tree.unlink(b"/d.npy~")
    with h5py.File(file) as opened:
        assert opened["d"] == opened["e"]
        assert opened["e"].attrs["a"] == 1
        assert HIDDEN_GROUP.decode() not in opened
    assert not file.with_name("f.h5.h5fs-left").exists()


@pytest.mark.semantics("R4", "U3")
def test_a_temporary_name_shows_what_was_written_by_the_other_name_after_a_kill(file: Path) -> None:
    with killed_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/d.npy~")
        save(tree, b"/d.npy", OTHER_RANK)
    with writable_tree(file) as tree:
        assert names(tree) >= {b"d.npy", b"d.npy~"}
        assert read(tree, b"/d.npy~") == OTHER_RANK


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("data", [ALIKE, OTHER_RANK])
def test_a_temporary_name_keeps_the_array_that_another_file_is_renamed_over(
    file: Path, data: bytes
) -> None:
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/d.npy~")  # as a backup
        save(tree, b"/.new", data)
        tree.rename(b"/.new", b"/d.npy")
        assert read(tree, b"/d.npy") == data
        assert read(tree, b"/d.npy~") == npy_bytes(OLD)
        assert tree.get_status(b"/d.npy~").hard_link_count == 1
        save(tree, b"/d.npy", OTHER_TYPE)
        assert read(tree, b"/d.npy~") == npy_bytes(OLD)
        tree.rename(b"/d.npy~", b"/d.npy")  # the backup comes back
        assert read(tree, b"/d.npy") == npy_bytes(OLD)
        hidden = store_of(tree).hidden_group()
        assert hidden is not None
        assert not len(store_of(tree).list_links(hidden).names)  # nothing takes space any more


@pytest.mark.semantics("R17")
@pytest.mark.parametrize("data", [ALIKE, OTHER_RANK, OTHER_TYPE])
@pytest.mark.parametrize("way", ["opened by its temporary name", "renamed while it is written"])
@pytest.mark.parametrize("others", [[b"/k.npy"], [b"/k.npy", b"/.d.npy.Ab3dEf"], [b"/k.npy~"]])
def test_all_names_lead_to_what_is_written_by_one_that_is_temporary(
    file: Path, others: list[bytes], way: str, data: bytes
) -> None:
    with writable_tree(file) as tree:
        for name in others:
            tree.make_hard_link(b"/d.npy", name)
        if way.startswith("opened"):
            tree.rename(b"/d.npy", b"/d.npy~")
        handle = tree.open(b"/d.npy~" if way.startswith("opened") else b"/d.npy", os.O_RDWR, 1)
        tree.truncate(None, 0, handle)
        tree.write(handle, memoryview(data[:50]), 0)
        if not way.startswith("opened"):
            tree.rename(b"/d.npy", b"/d.npy~")
        tree.write(handle, memoryview(data[50:]), 50)
        tree.flush(handle, 1)
        for name in (b"/d.npy~", *others):
            assert read(tree, name) == data
            assert tree.get_status(name).hard_link_count == 1 + len(others)
        tree.release(handle)
        assert names(tree) & {b"d.npy", b"d.npy~", b"k.npy"} <= {b"d.npy~", b"k.npy"}
        tree.rename(b"/d.npy~", b"/d.npy")
        for name in others:
            if name != b"/k.npy":
                assert read(tree, name) == data
                tree.unlink(name)
    with h5py.File(file) as opened:
        assert npy_bytes(opened["d"][()]) == data
        assert dict(opened["d"].attrs) == {"a": 1}
        assert b"/k.npy" not in others or opened["k"] == opened["d"]
        assert HIDDEN_GROUP.decode() not in opened


@pytest.mark.semantics("R20")
@pytest.mark.parametrize("data", [ALIKE, OTHER_RANK, OTHER_TYPE])
@pytest.mark.parametrize("name", [b"/d.npy", b"/d.npy~"])
@pytest.mark.parametrize("way", ["written before", "written after"])
def test_what_is_written_to_a_file_whose_name_is_gone_is_what_its_other_names_lead_to(
    file: Path, name: bytes, way: str, data: bytes
) -> None:
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/k.npy")
        tree.make_hard_link(b"/d.npy", b"/d.npy~")
        first = tree.open(name, os.O_RDWR, 1)
        second = tree.open(name if name == b"/d.npy~" else b"/k.npy", os.O_RDWR | os.O_TRUNC, 2)
        for is_before in (True, False):
            if is_before == (way == "written before"):
                tree.write(second, memoryview(data), 0)
            if is_before:
                tree.unlink(name)
        assert read_handle(tree, second) == data
        tree.flush(second, 2)
        assert names(tree) >= {b"d.npy~" if name == b"/d.npy" else b"d.npy", b"k.npy"}
        for each in {b"/d.npy", b"/d.npy~", b"/k.npy"} - {name}:
            assert read(tree, each) == data
            assert tree.get_status(each).hard_link_count == 2
        tree.write(first, memoryview(data[-2:]), len(data) - 4)  # in place
        expected = data[:-4] + data[-2:] * 2
        for each in {b"/d.npy", b"/d.npy~", b"/k.npy"} - {name}:
            assert read(tree, each) == expected
        for handle in (first, second):
            tree.flush(handle, 1)
            tree.release(handle)
        if name == b"/d.npy":
            tree.unlink(b"/d.npy~")
    with h5py.File(file) as opened:
        assert npy_bytes(opened["k"][()]) == expected
        assert dict(opened["k"].attrs) == {"a": 1}
        assert HIDDEN_GROUP.decode() not in opened


@pytest.mark.semantics("R20")
@pytest.mark.parametrize("other", [b"/d.npy~", b"/e.npy"])
def test_what_is_written_by_a_temporary_name_that_another_array_gets_is_what_the_others_lead_to(
    file: Path, other: bytes
) -> None:
    with writable_tree(file) as tree:
        save(tree, b"/e.npy", OTHER_RANK)
        if other == b"/d.npy~":
            tree.rename(b"/e.npy", other)
        tree.make_hard_link(b"/d.npy", b"/.t")
        handle = tree.open(b"/.t", os.O_RDWR | os.O_TRUNC, 1)
        tree.write(handle, memoryview(OTHER_TYPE), 0)
        tree.rename(other, b"/.t")
        tree.flush(handle, 1)
        tree.release(handle)
        assert read(tree, b"/d.npy") == OTHER_TYPE
        assert read(tree, b"/.t") == OTHER_RANK
        tree.rename(b"/.t", b"/e.npy")
    with h5py.File(file) as opened:
        assert npy_bytes(opened["d"][()]) == OTHER_TYPE
        assert npy_bytes(opened["e"][()]) == OTHER_RANK


@pytest.mark.semantics("R20")
def test_what_is_written_to_a_file_all_of_whose_names_are_gone_is_nowhere(file: Path) -> None:
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/k.npy")
        handle = tree.open(b"/k.npy", os.O_RDWR | os.O_TRUNC, 1)
        tree.write(handle, memoryview(OTHER_TYPE), 0)
        save(tree, b"/.new", OTHER_RANK)
        tree.unlink(b"/k.npy")
        tree.rename(b"/.new", b"/d.npy")
        tree.flush(handle, 1)
        assert read_handle(tree, handle) == OTHER_TYPE
        assert read(tree, b"/d.npy") == OTHER_RANK
        kill_worker(tree)
        assert read_handle(tree, handle) == OTHER_TYPE
        tree.release(handle)
        hidden = store_of(tree).hidden_group()
        assert hidden is not None
        assert not len(store_of(tree).list_links(hidden).names)
    with h5py.File(file) as opened:
        assert npy_bytes(opened["d"][()]) == OTHER_RANK
        assert "k" not in opened


@pytest.mark.semantics("R17", "R8")
def test_what_is_no_array_and_written_by_a_temporary_name_is_refused_for_the_others(
    file: Path,
) -> None:
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/d.npy~")
        with pytest.raises(InvalidArrayError):
            save(tree, b"/d.npy~", b"no array, and many bytes of it")
        assert read(tree, b"/d.npy") == npy_bytes(OLD)
        save(tree, b"/d.npy~", OTHER_RANK)
        assert read(tree, b"/d.npy") == OTHER_RANK
        handle = tree.open(b"/d.npy~", os.O_RDWR | os.O_TRUNC, 1)
        with pytest.raises(EmptiedError):
            tree.flush(handle, 1)
        tree.release(handle)
        assert read(tree, b"/d.npy~") == read(tree, b"/d.npy") == OTHER_RANK
        tree.unlink(b"/d.npy")  # it is the only one now, and may have any content on its way
        save(tree, b"/d.npy~", b"no array")
        assert read(tree, b"/d.npy~") == b"no array"
        tree.unlink(b"/d.npy~")


@pytest.mark.semantics("R4", "R10")
def test_a_reader_goes_on_when_an_array_with_a_temporary_name_is_written_anew(file: Path) -> None:
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/d.npy~")
        reader = tree.open(b"/d.npy", os.O_RDONLY, 2)
        save(tree, b"/d.npy", OTHER_RANK)
        assert read_handle(tree, reader) == npy_bytes(OLD)
        assert read(tree, b"/d.npy~") == read(tree, b"/d.npy") == OTHER_RANK
        tree.release(reader)
        tree.unlink(b"/d.npy~")
        hidden = store_of(tree).hidden_group()
        assert hidden is not None
        assert not len(store_of(tree).list_links(hidden).names)


@pytest.mark.semantics("R14")
@pytest.mark.parametrize("name", [b"x.npy", b"inner", b"s"])
def test_a_rename_onto_itself_by_another_path_changes_nothing(file: Path, name: bytes) -> None:
    with writable_tree(file) as tree:
        before = names(tree, b"/g"), tree.get_status(b"/g/" + name)
        workers = store_of(tree)._pool.worker_pids()
        tree.rename(b"/g/" + name, b"/h/" + name)
        assert (names(tree, b"/g"), tree.get_status(b"/g/" + name)) == before
        assert store_of(tree)._pool.worker_pids() == workers


@pytest.mark.semantics("R14")
def test_a_rename_onto_another_name_of_the_same_object_changes_nothing(file: Path) -> None:
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/e.npy")
        tree.rename(b"/d.npy", b"/e.npy")
        tree.rename(b"/g", b"/h")
        assert names(tree) == {b"d.npy", b"d.attrs.json", b"e.npy", b"e.attrs.json", b"g", b"h"}


@pytest.mark.semantics("R14")
@pytest.mark.parametrize("old", [b"/d.npy", b"/.d.npy.Ab3dEf"])
def test_a_rename_onto_a_temporary_name_of_the_same_array_changes_nothing(
    file: Path, old: bytes
) -> None:
    with writable_tree(file) as tree:
        for name in (b"/.d.npy.Ab3dEf", b"/d.npy~"):
            tree.make_hard_link(b"/d.npy", name)
        tree.rename(old, b"/d.npy~")
        assert names(tree) >= {b"d.npy", b".d.npy.Ab3dEf", b"d.npy~"}
        assert tree.get_status(b"/d.npy").hard_link_count == 3
        tree.unlink(b"/d.npy~")
        tree.unlink(b"/.d.npy.Ab3dEf")


@pytest.mark.semantics("R17")
@pytest.mark.parametrize("is_open", [False, True])
def test_an_array_that_gets_its_name_back_replaces_a_file_that_was_begun_there(
    file: Path, is_open: bool
) -> None:
    with writable_tree(file) as tree:
        tree.rename(b"/d.npy", b"/d.npy~")
        handle = tree.create(b"/d.npy", os.O_RDWR, 1)
        if not is_open:
            tree.flush(handle, 1)
            tree.release(handle)
        tree.rename(b"/d.npy~", b"/d.npy")
        assert read(tree, b"/d.npy") == npy_bytes(OLD)
        if is_open:
            tree.write(handle, memoryview(ALIKE), 0)
            assert read_handle(tree, handle) == ALIKE
            tree.flush(handle, 1)
            tree.release(handle)
        assert read(tree, b"/d.npy") == npy_bytes(OLD)
        assert tree.get_status(b"/d.npy").size_bytes == len(npy_bytes(OLD))
    with h5py.File(file) as opened:
        assert npy_bytes(opened["d"][()]) == npy_bytes(OLD)
        assert dict(opened["d"].attrs) == {"a": 1}


@pytest.mark.semantics("R17", "R20")
def test_an_array_renamed_over_a_temporary_name_is_not_taken_for_the_one_that_had_it(
    file: Path,
) -> None:
    with writable_tree(file) as tree:
        save(tree, b"/e.npy", OTHER_RANK)
        tree.make_hard_link(b"/d.npy", b"/d.npy~")
        tree.rename(b"/e.npy", b"/.t")
        assert tree.get_status(b"/d.npy~").hard_link_count == 2
        tree.rename(b"/.t", b"/d.npy~")
        assert tree.get_status(b"/d.npy~").hard_link_count == 1
        handle = tree.open(b"/d.npy~", os.O_RDWR | os.O_TRUNC, 1)
        tree.unlink(b"/d.npy~")
        tree.write(handle, memoryview(OTHER_TYPE), 0)
        tree.flush(handle, 1)
        tree.release(handle)
        assert read(tree, b"/d.npy") == npy_bytes(OLD)


@pytest.mark.semantics("R4", "R20")
def test_a_temporary_name_that_is_gone_is_no_hard_link_any_more(file: Path) -> None:
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/d.npy~")
        assert tree.get_status(b"/d.npy").hard_link_count == 2
        tree.unlink(b"/d.npy~")
        assert tree.get_status(b"/d.npy").hard_link_count == 1
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        tree.rename(b"/d.npy", b"/d.npy~")
        assert tree.get_status(b"/d.npy~").hard_link_count == 1
        tree.unlink(b"/d.npy~")
        assert tree.get_status_of_handle(handle, has_name=False).hard_link_count == 0
        tree.release(handle)


@pytest.mark.semantics("R14", "R23")
def test_what_was_known_of_a_removed_array_is_not_said_of_a_new_one_of_its_number(
    file: Path,
) -> None:
    with writable_tree(file) as tree:
        inodes = []
        for length in range(4, 10):
            data = npy_bytes(np.arange(float(length)))
            tree.rename(b"/d.npy", b"/d.npy.tmp")
            assert tree.get_status(b"/d.npy.tmp").size_bytes > 0
            tree.unlink(b"/d.npy.tmp")
            save(tree, b"/d.npy", data)
            status = tree.get_status(b"/d.npy")
            assert status.size_bytes == len(data)
            assert read(tree, b"/d.npy") == data
            inodes.append(status.inode)
        assert len(set(inodes)) < len(inodes)  # or this test shows nothing


@pytest.mark.semantics("R17", "R20")
@pytest.mark.parametrize("data", [ALIKE, OTHER_RANK, OTHER_TYPE])
@pytest.mark.parametrize("has_draft", [False, True])
def test_who_has_an_array_open_by_one_name_goes_on_with_what_another_one_has_brought(
    file: Path, data: bytes, has_draft: bool
) -> None:
    """Elements in place are those of the new array; a draft takes its place when it is closed."""
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/d.npy~")
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        mine = npy_bytes(np.append(OLD, [7.0]))
        if has_draft:
            tree.write(handle, memoryview(mine[-8:]), len(mine) - 8)
        save(tree, b"/d.npy~", data)
        kill_worker(tree)
        if has_draft:
            tree.write(handle, memoryview(mine[:128]), 0)
        else:
            assert read_handle(tree, handle) == data
            tree.write(handle, memoryview(data[-1:]), len(data) - 2)
        tree.flush(handle, 1)
        tree.release(handle)
        expected = mine if has_draft else data[:-2] + data[-1:] * 2
        assert read(tree, b"/d.npy") == read(tree, b"/d.npy~") == expected
        tree.unlink(b"/d.npy~")
    with h5py.File(file) as opened:
        assert npy_bytes(opened["d"][()]) == expected

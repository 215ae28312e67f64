"""Files that wait for others, and survive ``kill -9`` of the daemon meanwhile: without a mount."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.stores import open_store
from support.trees import (
    kill_worker,
    killed_tree,
    names,
    read,
    save,
    store_of,
    writable_tree,
)
from support.writing import make_file

from h5fs.errors import H5fsError, InvalidAttributesError, UnreadableError
from h5fs.model.settings import StoreOptions
from h5fs.store.hidden_names import HIDDEN_GROUP
from h5fs.tree import Tree

HIDDEN = HIDDEN_GROUP.decode()
ARRAY = npy_bytes(np.arange(6.0))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = make_file(tmp_path / "f.h5", d=np.arange(3))
    with h5py.File(file, "a") as opened:
        opened["d"].attrs["old"] = 1
        opened.create_group("g")
    return file


def as_json(**values: Any) -> bytes:
    return json.dumps(values).encode()


def reference_to(*paths: str) -> bytes:
    """Return the JSON of attributes, the last of which refers to HDF5 paths."""
    return as_json(
        note="n",
        to=list(paths) if len(paths) > 1 else paths[0],
        **{"$types": {"to": {"class": "H5T_REFERENCE", "base": "H5T_STD_REF_OBJ"}}},
    )


def targets_of(file: Path, path: str, name: str = "to") -> list[str]:
    with h5py.File(file) as opened:
        value = opened[path].attrs[name]
        return [opened[each].name for each in np.atleast_1d(value)]


@pytest.mark.semantics("R11", "U3")
def test_attributes_that_wait_for_their_object_survive_a_kill(file: Path) -> None:
    with killed_tree(file) as tree:
        save(tree, b"/new.attrs.json", as_json(a=1))
        save(tree, b"/new.attrs.json", as_json(a=2))
        save(tree, b"/g/x%.attrs.json", as_json(b=1))
        tree.rename(b"/g", b"/h")
        assert names(tree) == {b"d.npy", b"d.attrs.json", b"h", b"new.attrs.json"}
        kill_worker(tree)
    reading = Tree(open_store(StoreOptions(file)))
    assert HIDDEN_GROUP not in {each.name for each in reading.list_folder(b"/")}
    reading.close()
    with killed_tree(file) as tree:
        assert json.loads(read(tree, b"/new.attrs.json")) == {"a": 2}
        assert names(tree, b"/h") == {b"x%.attrs.json"}
    with writable_tree(file) as tree:
        save(tree, b"/new.npy", ARRAY)
        save(tree, b"/h/x%.npy", ARRAY)
        assert json.loads(read(tree, b"/new.attrs.json")) == {"a": 2}
    with h5py.File(file) as opened:
        assert set(opened) == {"d", "h", "new"}
        assert dict(opened["new"].attrs) == {"a": 2}
        assert dict(opened["h/x%"].attrs) == {"b": 1}
    assert not file.with_name("f.h5.h5fs-left").exists()


@pytest.mark.semantics("R11", "R18")
def test_attributes_whose_object_never_comes_are_saved_and_nothing_is_left(file: Path) -> None:
    with writable_tree(file) as tree:
        save(tree, b"/new.attrs.json", as_json(a=1))
        save(tree, b"/gone.attrs.json", as_json(a=1))
        tree.unlink(b"/gone.attrs.json")
    left = file.with_name("f.h5.h5fs-left")
    assert [each.name for each in left.iterdir()] == ["new.attrs.json"]
    assert json.loads((left / "new.attrs.json").read_bytes()) == {"a": 1}
    with h5py.File(file) as opened:
        assert set(opened) == {"d", "g"}


@pytest.mark.semantics("R11", "U3")
@pytest.mark.parametrize("dies", [False, True])
def test_attributes_that_refer_to_what_comes_later_wait_for_it(file: Path, dies: bool) -> None:
    with killed_tree(file) if dies else writable_tree(file) as tree:
        save(tree, b"/d.attrs.json", reference_to("/g/x", "/e", "/d"))
        assert json.loads(read(tree, b"/d.attrs.json"))["note"] == "n"
        assert names(tree) == {b"d.npy", b"d.attrs.json", b"g"}
        save(tree, b"/e.npy", ARRAY)
        if not dies:
            save(tree, b"/g/x.npy", ARRAY)
    if dies:
        with h5py.File(file, "r"):
            pass  # the main file is whole, whatever the log has
        with writable_tree(file) as tree:
            assert json.loads(read(tree, b"/d.attrs.json"))["note"] == "n"
            save(tree, b"/g/x.npy", ARRAY)
    assert targets_of(file, "d") == ["/g/x", "/e", "/d"]
    with h5py.File(file) as opened:
        assert set(opened) == {"d", "e", "g"}
        assert set(opened["d"].attrs) == {"note", "to"}
    assert not file.with_name("f.h5.h5fs-left").exists()


@pytest.mark.semantics("R11")
def test_a_reference_through_links_that_go_round_waits_until_they_lead_somewhere(
    file: Path,
) -> None:
    with h5py.File(file, "a") as opened:
        opened["loop"] = h5py.SoftLink("/loop")
    with writable_tree(file) as tree:
        save(tree, b"/d.attrs.json", reference_to("/loop/x"))
        assert json.loads(read(tree, b"/d.attrs.json"))["to"] == "/loop/x"
        tree.unlink(b"/loop")
        tree.make_folder(b"/loop")
        save(tree, b"/loop/x.npy", ARRAY)
    assert targets_of(file, "d") == ["/loop/x"]


@pytest.mark.semantics("R11", "R8")
def test_a_reference_by_a_path_that_begins_nowhere_is_refused(file: Path) -> None:
    with writable_tree(file) as tree, pytest.raises(InvalidAttributesError, match="root group"):
        save(tree, b"/d.attrs.json", reference_to("g/x"))


@pytest.mark.semantics("R11")
@pytest.mark.parametrize("way", ["mkdir", "rename", "link", "symlink", "scratch", "folder"])
def test_a_target_may_come_in_any_way(file: Path, way: str) -> None:
    path = "/f/x" if way == "folder" else "/new"
    with writable_tree(file) as tree:
        save(tree, b"/g/.attrs.json", reference_to(path))
        assert "to" not in store_attributes(tree, b"/g")
        if way == "mkdir":
            tree.make_folder(b"/new")
        elif way == "rename":
            tree.rename(b"/d.npy", b"/new.npy")
        elif way == "link":
            tree.make_hard_link(b"/d.npy", b"/new.npy")
        elif way == "symlink":
            tree.make_symbolic_link(b"d.npy", b"/new")
        elif way == "scratch":
            save(tree, b"/.new.npy.Ab3dEf", ARRAY)
            tree.rename(b"/.new.npy.Ab3dEf", b"/new.npy")
        else:
            tree.make_folder(b"/other")
            save(tree, b"/other/x.npy", ARRAY)
            tree.rename(b"/other", b"/f")
        assert "to" in store_attributes(tree, b"/g")
    assert targets_of(file, "g") == ["/new" if way != "symlink" else "/d"] or way in (
        "link", "folder"
    )  # fmt: skip


def store_attributes(tree: Any, path: bytes) -> set[str]:
    store = store_of(tree)
    found = store.read_attributes(tree._lookup.find(path).info.ref)
    return {each.name.decode() for each in found}


@pytest.mark.semantics("R11", "R18")
def test_a_target_that_never_comes_costs_its_attribute_alone(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writable_tree(file) as tree, caplog.at_level(logging.WARNING):
        save(tree, b"/d.attrs.json", reference_to("/never"))
        tree.rename(b"/d.npy", b"/e.npy")
        assert names(tree) == {b"e.npy", b"e.attrs.json", b"g"}
    assert "/never" in caplog.text
    left = file.with_name("f.h5.h5fs-left")
    assert json.loads((left / "e.attrs.json").read_bytes())["to"] == "/never"
    with h5py.File(file) as opened:
        assert dict(opened["e"].attrs) == {"note": "n"}
        assert set(opened) == {"e", "g"}


@pytest.mark.semantics("R11")
def test_what_waits_can_be_written_anew_and_removed(file: Path) -> None:
    with writable_tree(file) as tree:
        save(tree, b"/d.attrs.json", reference_to("/never"))
        with pytest.raises(InvalidAttributesError):
            save(tree, b"/d.attrs.json", b"{")
        save(tree, b"/d.attrs.json", as_json(now=1))
        assert store_attributes(tree, b"/d.npy") == {"now"}
        save(tree, b"/g/.attrs.json", reference_to("/never"))
        tree.unlink(b"/g/.attrs.json")
        tree.remove_folder(b"/g")
    with h5py.File(file) as opened:
        assert set(opened) == {"d"}
        assert dict(opened["d"].attrs) == {"now": 1}
    assert not file.with_name("f.h5.h5fs-left").exists()


@pytest.mark.semantics("R11")
def test_variables_that_refer_to_each_other_come_in_any_order(file: Path) -> None:
    count = 12
    with writable_tree(file) as tree:
        for number in range(count):
            others = [f"/v{other}" for other in range(count) if other != number]
            save(tree, b"/v%d.attrs.json" % number, reference_to(*others))
            save(tree, b"/v%d.npy" % number, ARRAY)
        assert tree.statistics().draft_count == 0
    for number in range(count):
        assert targets_of(file, f"v{number}") == [f"/v{o}" for o in range(count) if o != number]


@pytest.mark.semantics("R11", "U3")
def test_what_waits_is_replaced_by_a_rename_and_survives_a_kill(file: Path) -> None:
    with killed_tree(file) as tree:
        save(tree, b"/new.attrs.json", as_json(a=1))
        save(tree, b"/.t.tmp", as_json(a=2))
        tree.rename(b"/.t.tmp", b"/new.attrs.json")
        tree.rename(b"/d.attrs.json", b"/late.attrs.json")
        tree.rename(b"/new.attrs.json", b"/late.attrs.json")
    with writable_tree(file) as tree:
        assert names(tree) == {b"d.npy", b"g", b"late.attrs.json"}
        save(tree, b"/late.npy", ARRAY)
    with h5py.File(file) as opened:
        assert dict(opened["late"].attrs) == {"a": 2}
        assert dict(opened["d"].attrs) == {}


@pytest.mark.semantics("R12", "U3")
@pytest.mark.parametrize("first", [b"values", b"offsets"])
@pytest.mark.parametrize("is_there", [False, True])
def test_the_first_file_of_a_pair_survives_a_kill(file: Path, first: bytes, is_there: bool) -> None:
    contents = {
        b"values": npy_bytes(np.arange(5.0)), b"offsets": npy_bytes(np.array([0, 2, 5])),
    }  # fmt: skip
    second = b"offsets" if first == b"values" else b"values"
    if is_there:
        with h5py.File(file, "a") as opened:
            opened.create_dataset("s", (2,), h5py.vlen_dtype("<f8"))[0] = [9.0]
    with killed_tree(file) as tree:
        save(tree, b"/s." + first + b".npy", contents[first])
    with writable_tree(file) as tree:
        assert read(tree, b"/s." + first + b".npy") == contents[first]
        save(tree, b"/s." + second + b".npy", contents[second])
    with h5py.File(file) as opened:
        assert set(opened) == {"d", "g", "s"}
        assert [list(each) for each in opened["s"]] == [[0, 1], [2, 3, 4]]
    assert not file.with_name("f.h5.h5fs-left").exists()


def test_what_was_kept_and_cannot_be_read_is_left_out(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from h5fs.tree.writing.keeper import Keeper

    with killed_tree(file) as tree:
        save(tree, b"/a.attrs.json", as_json(a=1))
        save(tree, b"/b.attrs.json", as_json(a=1))
    take_up = Keeper._take_up_bytes

    def fail(self: Any, path: bytes, info: Any) -> Any:
        if path == b"/a.attrs.json":
            raise H5fsError("damaged")
        return take_up(self, path, info)

    monkeypatch.setattr(Keeper, "_take_up_bytes", fail)
    with writable_tree(file) as tree:
        assert names(tree) >= {b"b.attrs.json", b"d.npy"}
    assert "/a.attrs.json cannot be brought back: damaged" in caplog.text


@pytest.mark.semantics("U15", "R18")
@pytest.mark.parametrize(
    "path",
    [b"/../out", b"/../../out", b"/g/../../out", b"out", b"", b"/", b"//out", b"/.", b"/g/./out",
     b"/" + b"x" * 256],
)  # fmt: skip
def test_what_a_strangers_hidden_group_names_is_written_nowhere_else(
    tmp_path: Path, path: bytes
) -> None:
    folder = tmp_path / "above" / "own"
    folder.mkdir(parents=True)
    file = make_file(folder / "f.h5", d=np.arange(3))
    kept = np.frombuffer(b"planted", np.uint8)
    with h5py.File(file, "a") as opened:
        hidden = opened.create_group(HIDDEN)
        for kind in (b"bytes:", b"dataset:"):
            hidden[kind + path.replace(b"/", b"%2F")] = kept
        hidden[b"bytes:%2Fwaits.attrs.json"] = np.frombuffer(as_json(a=1), np.uint8)
    with writable_tree(file) as tree:
        assert names(tree) == {b"d.npy", b"waits.attrs.json"}
    found = {each.relative_to(folder) for each in folder.rglob("*")}
    left = Path("f.h5.h5fs-left")
    assert found == {Path("f.h5"), left, left / "waits.attrs.json"}
    assert [each.name for each in tmp_path.rglob("*out*")] == []


@pytest.mark.semantics("U15")
def test_what_is_kept_and_no_mount_can_have_kept_is_not_copied(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with h5py.File(file, "a") as opened:
        hidden = opened.create_group(HIDDEN)
        hidden.create_dataset(b"bytes:%2Fhuge.tmp", (2**50,), "u1", chunks=(2**20,))
        hidden[b"bytes:%2Ffloats.tmp"] = np.ones((2, 3))
        hidden[b"bytes:%2Fgroup.tmp"] = hidden.create_group("bytes:%2Fsame.tmp")
        hidden[b"dataset:%2Ftype.tmp"] = np.dtype("i4")
    with writable_tree(file) as tree:
        assert names(tree) == {b"d.npy", b"d.attrs.json", b"g"}
    assert not file.with_name("f.h5.h5fs-left").exists()
    with h5py.File(file) as opened:
        assert HIDDEN not in opened
    assert "/huge.tmp cannot be brought back: " in caplog.text


@pytest.mark.semantics("U15")
def test_what_a_stranger_has_in_a_group_of_the_hidden_name_stays(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened.create_group(HIDDEN)["theirs"] = np.arange(4)
    with writable_tree(file) as tree:
        handle = tree.open(b"/d.npy", 0, 1)
        tree.unlink(b"/d.npy")
        tree.release(handle)
    with h5py.File(file) as opened:
        assert list(opened[HIDDEN]) == ["theirs"]
        assert opened[HIDDEN]["theirs"][()].tolist() == [0, 1, 2, 3]


@pytest.mark.semantics("U15")
def test_a_group_that_another_program_has_called_hidden_is_shown_as_any(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened[".h5fs-hidden/theirs"] = np.arange(6.0)
        opened["d"].attrs["to"] = opened[".h5fs-hidden/theirs"].ref
    with killed_tree(file) as tree:
        tree.rename(b"/d.npy", b"/d.npy~")
    with writable_tree(file) as tree:
        assert names(tree) == {b"d.npy~", b"g", b".h5fs-hidden"}
        assert read(tree, b"/.h5fs-hidden/theirs.npy") == ARRAY
        tree.rename(b"/d.npy~", b"/d.npy")
    reading = Tree(open_store(StoreOptions(file)))
    assert b".h5fs-hidden" in {each.name for each in reading.list_folder(b"/")}
    handle = reading.open(b"/d.attrs.json", 0)
    assert json.loads(reading.read(handle, 1000, 0))["to"] == "/.h5fs-hidden/theirs"
    reading.close()
    with h5py.File(file) as opened:
        assert set(opened) == {"d", "g", ".h5fs-hidden"}


def test_a_reference_to_a_name_that_only_begins_as_the_hidden_one_has_a_path(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened[f"{HIDDEN}-not"] = 1
        opened["d"].attrs["to"] = opened[f"{HIDDEN}-not"].ref
    with writable_tree(file) as tree:
        assert json.loads(read(tree, b"/d.attrs.json"))["to"] == f"/{HIDDEN}-not"


@pytest.mark.semantics("R17")
def test_a_dataset_that_cannot_be_kept_under_a_temporary_name_keeps_its_own(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise UnreadableError("a disk that fails")

    with writable_tree(file) as tree:
        monkeypatch.setattr(store_of(tree), "hold", fail)
        with pytest.raises(UnreadableError, match="fails"):
            tree.rename(b"/d.npy", b"/d.npy~")
        assert names(tree) == {b"d.npy", b"d.attrs.json", b"g"}
    with h5py.File(file) as opened:
        assert opened["d"][...].tolist() == [0, 1, 2]
        assert opened["d"].attrs["old"] == 1

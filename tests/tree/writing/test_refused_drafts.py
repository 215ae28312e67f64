"""What the last `close` of a file that the HDF5 file has refused is told and saved at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import killed_tree, read, save, writable_tree
from support.writing import REFUSED, make_file

from h5fs.errors import H5fsError, UnreadableError
from h5fs.tree import WritableTree
from h5fs.tree.writing.pending.refused_drafts import RefusedDrafts
from h5fs.tree.writing.pending.writable_file import WritableFile

VALUES = np.arange(3)
BAD = b"{bad"
MIB = 2**20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = make_file(tmp_path / "f.h5", x=VALUES, other=VALUES + 1)
    with h5py.File(file, "a") as opened:
        opened["x"].attrs["old"] = 1
        opened["g/y"] = VALUES
        opened["g/y"].attrs["old"] = 2
    return file


def refuse(tree: WritableTree, path: bytes = b"/x.attrs.json", data: bytes = BAD) -> None:
    with pytest.raises(H5fsError):
        save(tree, path, data)


def saved_in(file: Path) -> dict[str, bytes]:
    left = file.with_name("f.h5.h5fs-left")
    return {
        str(each.relative_to(left)): each.read_bytes() for each in left.rglob("*") if each.is_file()
    }


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in caplog.messages if REFUSED in text]


@pytest.mark.semantics("R18", "R8")
@pytest.mark.parametrize(
    ("path", "data", "reason"),
    [
        (b"/x.attrs.json", BAD, "not JSON: "),
        (b"/x.npy", b"nonsense", "not a .npy file"),
        (b"/x.npy", npy_bytes(VALUES)[:-1], ""),
        (b"/g/y.npy", npy_bytes(VALUES) + b"more", ""),
    ],
)
def test_what_was_refused_last_is_told_and_saved_and_the_file_has_what_it_had(
    file: Path, caplog: pytest.LogCaptureFixture, path: bytes, data: bytes, reason: str
) -> None:
    with writable_tree(file) as tree:
        before = read(tree, path)
        refuse(tree, path, b"first")
        refuse(tree, path, data)
        assert read(tree, path) == before
        assert told(caplog) == []
    name = path.decode()
    (line,) = told(caplog)
    assert line.startswith(f"{name}{REFUSED}{reason}")
    assert line.endswith(f"; saved as {file}.h5fs-left{name}")
    assert saved_in(file) == {name[1:]: data}
    with h5py.File(file) as opened:
        assert dict(opened["x"].attrs) == {"old": 1}
        assert list(opened["x"]) == list(opened["g/y"]) == [0, 1, 2]


def correct(tree: WritableTree) -> None:
    save(tree, b"/x.attrs.json", b'{"new": 1}')


def correct_by_a_rename(tree: WritableTree) -> None:
    save(tree, b"/x.attrs.json.tmp", b'{"new": 1}')
    tree.rename(b"/x.attrs.json.tmp", b"/x.attrs.json")


def let_attributes_wait(tree: WritableTree) -> None:
    reference = {"class": "H5T_REFERENCE", "base": "H5T_STD_REF_OBJ"}
    save(tree, b"/x.attrs.json", json.dumps({"to": "/new", "$types": {"to": reference}}).encode())
    save(tree, b"/new.npy", npy_bytes(VALUES))


def leave_no_attributes(tree: WritableTree) -> None:
    save(tree, b"/x.attrs.json", b"{}")


def set_one_attribute(tree: WritableTree) -> None:
    tree.set_xattr(b"/x.npy", b"user.units", b"m", 0)


def remove_attributes(tree: WritableTree) -> None:
    tree.unlink(b"/x.attrs.json")


def remove_the_array(tree: WritableTree) -> None:
    tree.unlink(b"/x.npy")


def make_the_array_anew(tree: WritableTree) -> None:
    tree.unlink(b"/x.npy")
    save(tree, b"/x.npy", npy_bytes(VALUES))


def rename_attributes_away(tree: WritableTree) -> None:
    tree.rename(b"/x.attrs.json", b"/other.attrs.json")


def move_another_array_there(tree: WritableTree) -> None:
    tree.rename(b"/other.npy", b"/x.npy")


@pytest.mark.semantics("R18")
@pytest.mark.parametrize(
    "change",
    [
        correct, correct_by_a_rename, let_attributes_wait, leave_no_attributes, set_one_attribute,
        remove_attributes, remove_the_array, make_the_array_anew, rename_attributes_away,
        move_another_array_there,
    ],
)  # fmt: skip
def test_what_was_written_anew_or_removed_or_renamed_since_is_not_told(
    file: Path, caplog: pytest.LogCaptureFixture, change: Callable[[WritableTree], None]
) -> None:
    with writable_tree(file) as tree:
        refuse(tree)
        change(tree)
    assert told(caplog) == []
    assert saved_in(file) == {}


@pytest.mark.semantics("R18")
@pytest.mark.parametrize("change", ["replaced", "removed", "renamed", "linked over"])
def test_an_array_that_was_written_anew_or_removed_or_renamed_since_is_not_told(
    file: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    with writable_tree(file) as tree:
        refuse(tree, b"/x.npy")
        if change == "replaced":
            save(tree, b"/x.npy", npy_bytes(VALUES * 2))
        elif change == "removed":
            tree.unlink(b"/x.npy")
        elif change == "renamed":
            tree.rename(b"/x.npy", b"/z.npy")
        else:
            tree.unlink(b"/x.npy")
            tree.make_hard_link(b"/other.npy", b"/x.npy")
    assert told(caplog) == []
    assert saved_in(file) == {}


@pytest.mark.semantics("R18")
def test_what_was_refused_goes_along_with_its_object_and_its_folder(file: Path) -> None:
    with writable_tree(file) as tree:
        refuse(tree, b"/x.attrs.json")
        refuse(tree, b"/g/y.attrs.json", b"{worse")
        tree.rename(b"/x.npy", b"/z.npy")
        tree.rename(b"/g", b"/h")
    assert saved_in(file) == {"z.attrs.json": BAD, "h/y.attrs.json": b"{worse"}


@pytest.mark.semantics("R18")
def test_a_refusal_while_the_file_is_open_is_not_told_when_it_is_whole_at_the_last_close(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writable_tree(file) as tree:
        handle = tree.open(b"/x.attrs.json", os.O_WRONLY | os.O_TRUNC, 1)
        tree.write(handle, memoryview(b'{"new": '), 0)
        for call in (lambda: tree.fsync(handle), lambda: tree.flush(handle, 1)):
            with suppress(H5fsError):
                call()
        tree.write(handle, memoryview(b"1}"), 8)
        tree.flush(handle, 1)
        tree.release(handle)
    assert told(caplog) == []
    assert saved_in(file) == {}


@pytest.mark.semantics("R18")
@pytest.mark.parametrize(
    ("path", "data"), [(b"/x.attrs.json", BAD), (b"/x.npy", npy_bytes(VALUES)[:-24])]
)
def test_what_is_open_at_the_end_and_refused_is_told_and_saved_too(
    file: Path, caplog: pytest.LogCaptureFixture, path: bytes, data: bytes
) -> None:
    with writable_tree(file) as tree:
        handle = tree.open(path, os.O_WRONLY | os.O_TRUNC, 1)
        tree.write(handle, memoryview(data), 0)
        with suppress(H5fsError):
            tree.flush(handle, 1)  # the kernel need not wait for the `release`
    (line,) = [each for each in caplog.messages if path.decode() in each]
    assert f"{path.decode()}{REFUSED}" in line and "; saved as " in line
    assert saved_in(file) == {path.decode()[1:]: data}


@pytest.mark.semantics("R18")
def test_what_is_only_emptied_is_not_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with writable_tree(file) as tree:
        refuse(tree, data=b"")
    assert told(caplog) == []
    with h5py.File(file) as opened:
        assert dict(opened["x"].attrs) == {"old": 1}


@pytest.mark.semantics("R18")
def test_of_a_large_content_there_is_the_line_alone(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writable_tree(file) as tree:
        refuse(tree, b"/x.npy", bytes(MIB + 1))
        refuse(tree, b"/other.npy", bytes(MIB))
    large, small = sorted(told(caplog), key=lambda line: not line.startswith("/x.npy"))
    assert large == f"/x.npy{REFUSED}not a .npy file; it was not kept"
    assert small.startswith("/other.npy") and "saved as" in small
    assert saved_in(file) == {"other.npy": bytes(MIB)}


@pytest.mark.semantics("R18")
def test_after_a_kill_nothing_is_left_of_what_was_refused(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with killed_tree(file) as tree:
        refuse(tree)
    with writable_tree(file) as tree:
        assert json.loads(read(tree, b"/x.attrs.json")) == {"old": 1}
    assert told(caplog) == []
    assert saved_in(file) == {}


@pytest.mark.semantics("R18")
def test_where_nothing_can_be_saved_the_reason_is_told(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    with writable_tree(file) as tree:
        refuse(tree)
        monkeypatch.setattr(Path, "mkdir", fail)
    (line,) = told(caplog)
    assert "; it is lost: " in line and line.endswith("No space left on device")


# A refused `rename` of a file with a temporary name.


def refuse_rename(tree: WritableTree, temporary: bytes, path: bytes, data: bytes = BAD) -> None:
    save(tree, temporary, data)
    with pytest.raises(H5fsError):
        tree.rename(temporary, path)


@pytest.mark.semantics("R18")
@pytest.mark.parametrize(
    ("temporary", "path"),
    [
        (b"/sedAb3dEf", b"/x.attrs.json"),
        (b"/.x.npy.Ab3dEf", b"/x.npy"),
        (b"/g/.y.npy.Ab3dEf", b"/g/y.npy"),
        (b"/.new.npy.Ab3dEf", b"/new.npy"),
        (b"/g/.attrs.json.tmp", b"/g/.attrs.json"),
    ],
)
def test_what_a_refused_rename_was_to_bring_is_told_when_its_temporary_file_is_removed(
    file: Path, caplog: pytest.LogCaptureFixture, temporary: bytes, path: bytes
) -> None:
    with writable_tree(file) as tree:
        refuse_rename(tree, temporary, path)
        tree.unlink(temporary)
    (line,) = told(caplog)
    name = path.decode()
    assert line.startswith(f"{name}{REFUSED}not ")
    assert line.endswith(f"; saved as {file}.h5fs-left{name}")
    assert saved_in(file) == {name[1:]: BAD}


@pytest.mark.semantics("R18")
def test_a_temporary_file_that_stays_is_told_with_the_reason_why_its_rename_was_refused(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writable_tree(file) as tree:
        refuse_rename(tree, b"/.x.npy.Ab3dEf", b"/x.npy")
    assert told(caplog) == []
    (line,) = [each for each in caplog.messages if ".x.npy.Ab3dEf" in each]
    assert "/.x.npy.Ab3dEf is not in the HDF5 file: it was to be /x.npy, " in line
    assert "not a .npy file" in line
    assert saved_in(file) == {".x.npy.Ab3dEf": BAD}


def rename_a_good_one(tree: WritableTree) -> None:
    save(tree, b"/.x.npy.Gh4iJk", npy_bytes(VALUES * 2))
    tree.rename(b"/.x.npy.Gh4iJk", b"/x.npy")


def remove_it(tree: WritableTree) -> None:
    tree.unlink(b"/x.npy")


def rename_it(tree: WritableTree) -> None:
    tree.rename(b"/x.npy", b"/z.npy")


@pytest.mark.semantics("R18")
@pytest.mark.parametrize("change", [rename_a_good_one, remove_it, rename_it])
def test_a_refused_rename_is_not_told_when_the_name_was_changed_since(
    file: Path, caplog: pytest.LogCaptureFixture, change: Callable[[WritableTree], None]
) -> None:
    with writable_tree(file) as tree:
        refuse_rename(tree, b"/.x.npy.Ab3dEf", b"/x.npy")
        tree.unlink(b"/.x.npy.Ab3dEf")
        change(tree)
    assert told(caplog) == []
    assert saved_in(file) == {}


@pytest.mark.semantics("R18")
def test_a_refused_rename_is_not_told_when_the_file_was_mended_first(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writable_tree(file) as tree:
        refuse_rename(tree, b"/.x.npy.Ab3dEf", b"/x.npy")
        save(tree, b"/.x.npy.Ab3dEf", npy_bytes(VALUES * 2))
        tree.rename(b"/.x.npy.Ab3dEf", b"/x.npy")
        refuse_rename(tree, b"/.x.npy.Gh4iJk", b"/other.npy")
        save(tree, b"/.x.npy.Gh4iJk", b"another content, never renamed")
        tree.unlink(b"/.x.npy.Gh4iJk")
    assert told(caplog) == []
    assert saved_in(file) == {}


@pytest.mark.semantics("R18")
def test_what_people_remove_after_a_refused_rename_is_not_told(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writable_tree(file) as tree:
        with pytest.raises(H5fsError):
            save(tree, b"/draft.npy", BAD)
        with pytest.raises(H5fsError):
            tree.rename(b"/draft.npy", b"/x.npy")
        tree.unlink(b"/draft.npy")
    assert told(caplog) == []
    assert saved_in(file) == {}


@pytest.mark.semantics("R18")
def test_a_new_name_that_was_refused_goes_with_its_folder(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writable_tree(file) as tree:
        tree.make_folder(b"/h")
        refuse_rename(tree, b"/h/.new.npy.Ab3dEf", b"/h/new.npy")
        tree.unlink(b"/h/.new.npy.Ab3dEf")
        tree.remove_folder(b"/h")
    assert told(caplog) == []
    assert saved_in(file) == {}


# The memory of them by itself.


def written(path: bytes, data: bytes) -> WritableFile:
    file = WritableFile(path)
    file.begin(empty=True).write(data, 0)
    return file


def is_anywhere(_path: bytes) -> bool:
    return True


@pytest.mark.semantics("R18")
def test_the_last_names_and_the_last_bytes_are_kept() -> None:
    refused = RefusedDrafts(most_names=3, most_bytes=5)
    for name in (b"/a", b"/b", b"/c", b"/a", b"/d"):
        refused.note(written(name, name), "why")
    left = refused.left(is_anywhere)
    assert [(each.path, each.data) for each in left] == [
        (b"/c", None), (b"/a", b"/a"), (b"/d", b"/d")
    ]  # fmt: skip
    assert {each.refusal for each in left} == {"why"}


def test_a_name_takes_what_is_below_it_along_and_nothing_else() -> None:
    refused = RefusedDrafts()
    for name in (b"/a/x", b"/a/y", b"/ab", b"/b/x"):
        refused.note(written(name, name), "why")
    refused.move(b"/a", b"/b")
    assert {each.path: each.data for each in refused.left(is_anywhere)} == {
        b"/ab": b"/ab", b"/b/x": b"/a/x", b"/b/y": b"/a/y"
    }  # fmt: skip
    refused.forget(b"/b")
    refused.forget(b"/b/x")
    refused.move(b"/nothing", b"/ab")
    assert [each.path for each in refused.left(is_anywhere)] == [b"/b/y"]


def test_what_cannot_be_asked_for_any_more_is_told() -> None:
    def fail(_path: bytes) -> bool:
        raise UnreadableError("gone")

    refused = RefusedDrafts()
    refused.note(written(b"/a", b"1"), "why")
    assert [each.path for each in refused.left(fail)] == [b"/a"]
    assert refused.left(lambda path: path != b"/a") == []

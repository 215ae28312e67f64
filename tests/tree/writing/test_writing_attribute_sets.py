"""Attributes that programs write as a whole set, or one by one: without a mount."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import names, read, save, store_of, writable_tree

from h5fs.errors import (
    EmptiedError,
    ExistsError,
    H5fsError,
    InvalidAttributesError,
    NoAttributeError,
    NotFoundError,
    UnsupportedTypeError,
)
from h5fs.projection.json.strict_json import JsonValue
from h5fs.tree import WritableTree


@pytest.fixture
def scales(tmp_path: Path) -> Path:
    """A file with a dataset ``t``, whose one dimension is ``lat``, as netCDF-C writes it."""
    file = tmp_path / "f.nc"
    with h5py.File(file, "w") as opened:
        opened["lat"], opened["t"] = np.arange(3.0), np.arange(3)
        opened["lat"].attrs["title"] = "old"
        opened["lat"].attrs["_Netcdf4Dimid"] = np.int32(0)
        opened["lat"].make_scale("lat")
        opened["t"].dims[0].attach_scale(opened["lat"])
        opened["t"].dims[0].label = "latitude"
    return file


def check_scales(file: Path) -> None:
    with h5py.File(file) as opened:
        assert opened["lat"].is_scale
        assert opened["t"].dims[0][0] == opened["lat"]
        assert opened["t"].dims[0].label == "latitude"
        assert opened["lat"].attrs["_Netcdf4Dimid"] == 0
        assert [opened[each[0]].name for each in opened["lat"].attrs["REFERENCE_LIST"]] == ["/t"]


@pytest.mark.semantics("A6", "R11")
def test_dimension_scales_stay_when_a_written_set_does_not_name_them(scales: Path) -> None:
    with writable_tree(scales) as tree:
        save(tree, b"/lat.attrs.json", b'{"units": "degC"}')
        save(tree, b"/t.attrs.json", b"{}")
    check_scales(scales)
    with h5py.File(scales) as opened:
        assert opened["lat"].attrs["units"] == "degC"
        assert "title" not in opened["lat"].attrs


@pytest.mark.semantics("A6", "R11")
def test_one_text_of_fixed_length_is_edited_and_the_rest_stays(scales: Path) -> None:
    with h5py.File(scales, "r+") as opened:
        opened["lat"].attrs["units"] = np.bytes_(b"m")  # as netCDF-C makes them
    with writable_tree(scales) as tree:
        text = read(tree, b"/lat.attrs.json")
        save(tree, b"/lat.attrs.json", text.replace(b'"units": "m"', b'"units": "degrees_north"'))
    check_scales(scales)
    with h5py.File(scales) as opened:
        assert opened["lat"].attrs["units"] == b"degrees_north"
        assert opened["lat"].attrs["title"] == "old"


@pytest.mark.semantics("A6", "R11")
def test_dimension_scales_stay_when_an_editor_moves_the_old_text_away_first(scales: Path) -> None:
    with writable_tree(scales) as tree:
        tree.rename(b"/lat.attrs.json", b"/lat.attrs.json~")
        save(tree, b"/lat.attrs.json", b'{"units": "degC"}')
        tree.unlink(b"/lat.attrs.json~")
    check_scales(scales)


@pytest.mark.semantics("A6")
def test_what_the_library_keeps_is_removed_when_it_is_named_null(scales: Path) -> None:
    with writable_tree(scales) as tree:
        save(tree, b"/t.attrs.json", b'{"DIMENSION_LIST": null, "DIMENSION_LABELS": null}')
    with h5py.File(scales) as opened:
        assert not opened["t"].attrs


def set_one(tree: WritableTree, path: bytes, name: bytes, value: bytes, flags: int = 0) -> None:
    tree.set_xattr(path, b"user." + name, value, flags)


@pytest.mark.semantics("A7")
def test_one_attribute_is_set_or_removed_and_all_others_stay(scales: Path) -> None:
    with h5py.File(scales, "a") as opened:
        opened["lat"].attrs["gain"] = np.float32(0.1)
        opened["lat"].attrs["window"] = np.array([1, 2], "<u2")
    with writable_tree(scales) as tree:
        set_one(tree, b"/lat.npy", b"title", b"5")
        set_one(tree, b"/lat.npy", b"gain", b"0.5")
        set_one(tree, b"/lat.npy", b"n", b"[1, 2]")
        set_one(tree, b"/lat.npy", b"units", "\u00b0C".encode())
        assert tree.get_xattr(b"/lat.npy", b"user.gain") == b"0.5"
        tree.remove_xattr(b"/lat.npy", b"user.window")
        set_one(tree, b"/", b"title", b'"5"')
        with pytest.raises(NoAttributeError):
            tree.remove_xattr(b"/lat.npy", b"user.window")
        with pytest.raises(NoAttributeError):
            set_one(tree, b"/lat.npy", b"new", b"1", os.XATTR_REPLACE)
        with pytest.raises(ExistsError):
            set_one(tree, b"/lat.npy", b"gain", b"1", os.XATTR_CREATE)
    check_scales(scales)
    with h5py.File(scales) as opened:
        attributes = opened["lat"].attrs
        assert attributes["title"] == "5"
        assert attributes["gain"] == 0.5
        assert attributes["gain"].dtype == np.float32
        assert attributes["n"].tolist() == [1, 2]
        assert attributes["units"] == "\u00b0C"
        assert "window" not in attributes
        assert dict(opened.attrs) == {"title": "5"}


@pytest.mark.semantics("A7")
@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_a_new_attribute_may_be_a_number_that_is_not_finite(scales: Path, text: str) -> None:
    with h5py.File(scales, "a") as opened:
        opened["lat"].attrs["single"] = np.float32(0.1)
        opened["lat"].attrs["words"] = "none"
    with writable_tree(scales) as tree:
        for name in (b"new", b"single", b"words"):
            set_one(tree, b"/lat.npy", name, text.encode())
        set_one(tree, b"/lat.npy", b"quoted", f'"{text}"'.encode())
        assert tree.get_xattr(b"/lat.npy", b"user.new") == text.encode()
        set_one(tree, b"/lat.npy", b"new", text.encode())
    with h5py.File(scales) as opened:
        attributes = opened["lat"].attrs
        assert attributes["words"] == attributes["quoted"] == text
        for name, dtype in (("new", np.float64), ("single", np.float32)):
            assert attributes[name].dtype == dtype
            assert np.array_equal(attributes[name], float(text), equal_nan=True)


@pytest.fixture
def kinds(tmp_path: Path) -> Path:
    """A file with attributes of many types, those that a plain value implies among them."""
    file = tmp_path / "kinds.h5"
    with h5py.File(file, "w") as opened:
        opened["kept"] = 1
        for name, value in {
            "integer": 5, "short": np.int16(5), "byte": np.uint8(5), "integers": np.array([1, 2]),
            "boolean": True, "float": 1.5, "complex": 1 + 2j,
        }.items():  # fmt: skip
            opened.attrs[name] = value
        opened.attrs.create("member", 1, dtype=h5py.enum_dtype({"A": 1, "B": 2}))
        opened.attrs["reference"] = opened["kept"].ref
        opened.attrs["texts"] = ["a", "b"]
        opened.attrs["letter"] = np.bytes_(b"z")
    return file


def check_refused(kinds: Path, change: Callable[[WritableTree], None]) -> None:
    with writable_tree(kinds) as tree:
        before = read(tree, b"/.attrs.json")
        with pytest.raises(InvalidAttributesError):
            change(tree)
        assert read(tree, b"/.attrs.json") == before


@pytest.mark.semantics("A7")
@pytest.mark.parametrize(
    "name",
    ["integer", "short", "byte", "integers", "boolean", "complex", "member", "reference"],
)  # fmt: skip
@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[1, NaN]", "some text"])
def test_no_number_becomes_text_that_its_type_cannot_hold(
    kinds: Path, name: str, text: str
) -> None:
    check_refused(kinds, lambda tree: set_one(tree, b"/", name.encode(), text.encode()))


@pytest.mark.semantics("A7")
@pytest.mark.parametrize("text", ["nan", "[1, NaN]", "1,5"])
def test_no_float_becomes_text_that_is_nearly_a_float(kinds: Path, text: str) -> None:
    check_refused(kinds, lambda tree: set_one(tree, b"/", b"float", text.encode()))


@pytest.mark.semantics("A7")
def test_text_that_a_type_can_hold_is_taken_and_text_in_quotes_is_text(kinds: Path) -> None:
    with writable_tree(kinds) as tree:
        for name, text in (
            ("member", "B"), ("reference", "/"), ("float", "NaN"), ("texts", "one text"),
            ("letter", "a word"), ("integer", '"5 mm"'), ("boolean", '"yes"'),
        ):  # fmt: skip
            set_one(tree, b"/", name.encode(), text.encode())
    with h5py.File(kinds) as opened:
        attributes = opened.attrs
        assert attributes["member"] == 2
        assert h5py.check_enum_dtype(attributes.get_id("member").dtype) == {"A": 1, "B": 2}
        assert opened[attributes["reference"]].name == "/"
        assert np.isnan(attributes["float"])
        assert attributes["texts"] == "one text"
        assert attributes["letter"] == "a word"
        assert (attributes["integer"], attributes["boolean"]) == ("5 mm", "yes")


@pytest.mark.semantics("A6")
@pytest.mark.parametrize("name", ["integer", "short", "integers", "boolean", "member"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "-NaN", ["NaN", "NaN"]])
def test_what_is_spelled_as_a_float_is_no_text_where_no_text_was(
    kinds: Path, name: str, value: JsonValue
) -> None:
    def change(tree: WritableTree) -> None:
        document = json.loads(read(tree, b"/.attrs.json"))
        document["$types"].pop(name, None)
        save(tree, b"/.attrs.json", json.dumps({**document, name: value}).encode())

    check_refused(kinds, change)


@pytest.mark.semantics("A6")
def test_with_an_entry_what_is_spelled_as_a_float_is_what_that_says(kinds: Path) -> None:
    text = {"class": "H5T_STRING", "charSet": "H5T_CSET_ASCII", "strPad": "H5T_STR_NULLPAD",
            "length": 3}  # fmt: skip
    with writable_tree(kinds) as tree:
        document = json.loads(read(tree, b"/.attrs.json"))
        document |= {"integer": "NaN", "integers": "NaN"}
        document["$types"] |= {"integer": "<f8", "integers": text}
        save(tree, b"/.attrs.json", json.dumps(document).encode())
    with h5py.File(kinds) as opened:
        assert np.isnan(opened.attrs["integer"])
        assert opened.attrs["integers"] == b"NaN"


@pytest.mark.semantics("A7")
def test_the_last_attribute_is_removed_and_one_of_the_librarys_too(scales: Path) -> None:
    with writable_tree(scales) as tree:
        tree.remove_xattr(b"/t.npy", b"user.DIMENSION_LABELS")
        tree.remove_xattr(b"/t.npy", b"user.DIMENSION_LIST")
        assert names(tree) == {b"lat.npy", b"lat.attrs.json", b"t.npy"}
    with h5py.File(scales) as opened:
        assert not opened["t"].attrs


@pytest.mark.semantics("A7")
@pytest.mark.parametrize(
    ("path", "name", "value", "expected"),
    [
        (b"/lat.npy", b"security.x", b"1", UnsupportedTypeError),
        (b"/lat.npy", b"user.h5fs.path", b"1", UnsupportedTypeError),
        (b"/lat.attrs.json", b"user.x", b"1", UnsupportedTypeError),
        (b"/new.npy", b"user.x", b"1", UnsupportedTypeError),
        (b"/none.npy", b"user.x", b"1", NotFoundError),
        (b"/lat.npy", b"user.x", b"\xff", InvalidAttributesError),
        (b"/lat.npy", b"user.x", b'[1, "a"]', InvalidAttributesError),
        (b"/bare.npy", b"user.x", b'[1, "a"]', InvalidAttributesError),
    ],
)
def test_what_cannot_be_set_is_refused_and_changes_nothing(
    scales: Path, path: bytes, name: bytes, value: bytes, expected: type[H5fsError]
) -> None:
    with h5py.File(scales, "a") as opened:
        opened["bare"] = 1
    with writable_tree(scales) as tree:
        before = names(tree), read(tree, b"/lat.attrs.json")
        handle = tree.create(b"/new.npy", os.O_WRONLY)
        with pytest.raises(expected):
            tree.set_xattr(path, name, value, 0)
        tree.unlink(b"/new.npy")
        tree.release(handle)
        assert (names(tree), read(tree, b"/lat.attrs.json")) == before


@pytest.mark.semantics("A7", "R11")
@pytest.mark.parametrize("is_new", [False, True], ids=["changed", "new"])
@pytest.mark.parametrize("first", [b"", b'{"a', b'{"a": 1, "title": 2}'])
@pytest.mark.parametrize("second", [b"", b'{"b": 3, "title": 4}', b'{"b": 5', b"{}"])
def test_an_attribute_that_is_set_while_a_text_is_written_spoils_neither(
    scales: Path, is_new: bool, first: bytes, second: bytes
) -> None:
    with h5py.File(scales, "a") as opened:
        opened["bare"] = 1
    name = b"bare" if is_new else b"lat"
    path, kept = name + b".attrs.json", {"k": 5} if is_new else {"k": 5, "title": "old"}
    with writable_tree(scales) as tree:
        if is_new:
            writer = tree.create(b"/" + path, os.O_WRONLY, 1)
        else:
            writer = tree.open(b"/" + path, os.O_WRONLY | os.O_TRUNC, 1)
        tree.write(writer, memoryview(first), 0)
        set_one(tree, b"/" + name + b".npy", b"k", b"5")
        given = json.loads(read(tree, b"/" + path))
        assert {key: given[key] for key in given if key in ("k", "title", "a", "b")} == kept
        tree.write(writer, memoryview(second), 0)
        text = second + first[len(second) :]
        try:
            expected = json.loads(text)
        except ValueError:
            expected = kept
            with pytest.raises((EmptiedError, InvalidAttributesError)):
                tree.flush(writer, 1)
        else:
            tree.flush(writer, 1)
        tree.release(writer)
    with h5py.File(scales) as opened:
        attributes = opened[name.decode()].attrs
        found = {key: attributes[key] for key in attributes if key in ("k", "title", "a", "b")}
        assert found == expected
    if not is_new:
        check_scales(scales)


@pytest.mark.semantics("R14")
@pytest.mark.parametrize("is_other", [False, True], ids=["hard link", "another array"])
def test_a_link_of_attributes_that_waits_brings_none_back(scales: Path, is_other: bool) -> None:
    with h5py.File(scales, "a") as opened:
        opened["a"] = opened["b"] = 1
        opened["a"].attrs["u"] = 1
    with writable_tree(scales) as tree:
        tree.make_hard_link(b"/a.attrs.json", b"/new.attrs.json")
        save(tree, b"/a.attrs.json", b'{"u": 2, "v": 3}')
        tree.make_hard_link(b"/b.npy" if is_other else b"/a.npy", b"/new.npy")
        assert json.loads(read(tree, b"/a.attrs.json")) == {"u": 2, "v": 3}
        expected = {"u": 1} if is_other else {"u": 2, "v": 3}
        assert json.loads(read(tree, b"/new.attrs.json")) == expected
    with h5py.File(scales) as opened:
        assert dict(opened["new"].attrs) == expected
        assert not [name for name in opened if name.startswith(".")]
    assert not scales.with_name("f.nc.h5fs-left").exists()


@pytest.mark.semantics("R14")
@pytest.mark.parametrize("end", ["removed", "renamed over", "written anew"])
def test_a_link_of_attributes_that_waits_is_of_no_array_that_gets_the_number_of_the_other_one(
    tmp_path: Path, end: str
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["b"] = np.arange(9.0)
    array = npy_bytes(np.arange(3))
    with writable_tree(file) as tree:
        save(tree, b"/a.npy", array)
        save(tree, b"/a.attrs.json", b'{"u": 1}')
        tree.make_hard_link(b"/a.attrs.json", b"/new.attrs.json")
        number = tree.get_status(b"/a.npy").inode
        if end == "removed":
            tree.unlink(b"/a.npy")
        elif end == "renamed over":
            tree.rename(b"/b.npy", b"/a.npy")
        else:
            save(tree, b"/a.npy", npy_bytes(np.arange(20.0)))
        for made in (b"/c%d.npy" % count for count in range(20)):
            save(tree, made, array)
            if tree.get_status(made).inode == number:
                tree.make_hard_link(made, b"/new.npy")
                break
        assert json.loads(read(tree, b"/new.attrs.json")) == {"u": 1}


@pytest.mark.semantics("R14")
def test_a_link_to_attributes_that_are_no_text_yet_leaves_nothing(scales: Path) -> None:
    with writable_tree(scales) as tree:
        before = names(tree)
        writer = tree.create(b"/new.attrs.json", os.O_WRONLY, 1)
        tree.write(writer, memoryview(b'{"a": '), 0)
        with pytest.raises(InvalidAttributesError):
            tree.make_hard_link(b"/new.attrs.json", b"/other.attrs.json")
        assert names(tree) == before | {b"new.attrs.json"}
        tree.write(writer, memoryview(b"1}"), 6)
        tree.flush(writer, 1)
        tree.release(writer)
        tree.unlink(b"/new.attrs.json")
    assert not scales.with_name("f.nc.h5fs-left").exists()


@pytest.mark.semantics("A7", "R11")
def test_an_attribute_is_set_in_a_text_that_waits(scales: Path) -> None:
    waiting = (
        b'{"to": "/later", "n": 1, "$types": '
        b'{"to": {"class": "H5T_REFERENCE", "base": "H5T_STD_REF_OBJ"}, "n": "<i2"}}'
    )
    with writable_tree(scales) as tree:
        save(tree, b"/t.attrs.json", waiting)
        set_one(tree, b"/t.npy", b"units", b"m")
        tree.make_folder(b"/later")
    with h5py.File(scales) as opened:
        assert opened[opened["t"].attrs["to"]].name == "/later"
        assert opened["t"].attrs["units"] == "m"
        assert opened["t"].attrs["n"].dtype == np.int16


@pytest.mark.semantics("A6", "R11")
def test_attributes_that_a_program_writes_again_have_the_types_that_they_have_by_now(
    tmp_path: Path,
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["x"] = np.arange(3)
        opened["y"] = opened["x"]
        opened["z"] = np.arange(4)
    with writable_tree(file) as tree:
        for path in (b"/x.attrs.json", b"/y.attrs.json", b"/z.attrs.json"):
            save(tree, path, b'{"a": 1}')
        save(tree, b"/y.attrs.json", b'{"a": 2.5}')
        save(tree, b"/x.attrs.json", b'{"a": 3}')
        tree.change_attributes(b"/z.npy", {b"a": b"0.5"})
        save(tree, b"/z.attrs.json", b'{"a": 7, "b": 1}')
        save(tree, b"/z.attrs.json", b'{"a": 7}')
        assert read(tree, b"/y.attrs.json") == b'{\n  "a": 3.0\n}\n'
    with h5py.File(file) as opened:
        assert opened["x"].attrs["a"] == 3 and opened["x"].attrs["a"].dtype == "f8"
        assert opened["z"].attrs["a"].dtype == "f8" and list(opened["z"].attrs) == ["a"]


@pytest.mark.semantics("A6")
def test_attributes_that_were_written_are_not_asked_for_to_be_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["x"] = np.arange(3)
    with writable_tree(file) as tree:
        save(tree, b"/x.attrs.json", b'{"a": 1, "b": [0.5, -0.0], "c": "text"}')
        with monkeypatch.context() as patched:
            for method in ("read_attributes", "write_attributes"):
                patched.setattr(store_of(tree), method, refuse)
            save(tree, b"/x.attrs.json", b'{"a":1,"b":[5e-1,-0.0],"c":"text"}')
            patched.undo()
            patched.setattr(store_of(tree), "read_attributes", refuse)
            save(tree, b"/x.attrs.json", b'{"a": 2, "c": "text"}')
    with h5py.File(file) as opened:
        assert dict(opened["x"].attrs) == {"a": 2, "c": "text"}


def refuse(*_given: object, **_named: object) -> None:
    raise AssertionError("asked for nothing")

"""Attributes that are edited through a mount: types stay, others are left alone, errors tell."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.writing import (
    check_file_opens,
    errno_of,
    errno_of_writing,
    make_file,
    shell,
    written,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with attributes of many types."""
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["d"] = np.arange(3)
        opened["bare"] = np.arange(3)
        opened.create_group("g/h")
        opened.attrs["title"] = "root"
        opened["g"].attrs["n"] = 1
        attributes = opened["d"].attrs
        attributes["units"] = "m"
        attributes["gain"] = np.float32(0.1)
        attributes["window"] = np.array([[0, 512], [1, 512]], "<u2")
        color = h5py.enum_dtype({"RED": 0, "DARK": 1}, "u1")
        attributes.create("mode", 0, dtype=color)
        attributes["fixed"] = np.bytes_("abc")
        attributes["flag"] = True
        attributes["z"] = 1 - 2j
        attributes.create("names", ["a", "bb"], dtype=h5py.string_dtype())
        attributes["pair"] = np.array([(1, 2.5)], [("i", "<i2"), ("x", "<f4")])
        attributes["to"] = opened["bare"].ref
    return file


def types_of(thing: Any) -> dict[str, Any]:
    """Return the HDF5 type of each attribute, in order."""
    count = h5py.h5a.get_num_attrs(thing.id)
    ids = (h5py.h5a.open(thing.id, index=index) for index in range(count))
    return {each.name.decode(): each.get_type().copy() for each in ids}


def check_types(thing: Any, expected: dict[str, Any]) -> None:
    """The attributes have these types, and there are no others."""
    types = types_of(thing)
    assert list(types) == list(expected)
    assert [name for name in types if not types[name].equal(expected[name])] == []


@pytest.mark.semantics("R11")
def test_an_edit_changes_one_value_and_no_type(file: Path) -> None:
    with h5py.File(file) as opened:
        before = types_of(opened["d"])
    with written(file) as mount:
        path = mount.path / "d.attrs.json"
        value = json.loads(path.read_text())
        value |= {"gain": 0.25, "mode": "DARK", "window": [[1, 2], [3, 4]], "fixed": "xyz"}
        value |= {"units": "mm", "flag": False, "z": [0.5, 1], "names": ["c", "größer"]}
        path.write_text(json.dumps(value))
        assert json.loads(path.read_text()) == value
    with h5py.File(file) as opened:
        attributes = opened["d"].attrs
        check_types(opened["d"], before)
        assert attributes["gain"] == np.float32(0.25)
        assert attributes["mode"] == 1
        assert attributes["window"].tolist() == [[1, 2], [3, 4]]
        assert attributes["fixed"] == b"xyz"
        assert attributes["units"] == "mm"
        assert attributes["flag"] == np.False_
        assert attributes["z"] == 0.5 + 1j
        assert attributes["names"].tolist() == ["c", "größer"]
        assert attributes["pair"].tolist() == [(1, 2.5)]
        assert opened[attributes["to"]] == opened["bare"]
    check_file_opens(file)


EDITS = {
    "sed -i": 'sed -i \'s/"units": "m"/"units": "km"/\' d.attrs.json',
    "perl -i": 'perl -pi -e \'s/"units": "m"/"units": "km"/\' d.attrs.json',
    "vim": 'vim -es -u NONE -c \'%s/"units": "m"/"units": "km"/\' -c wq d.attrs.json',
    "vim with a backup": "vim -es -u NONE -c 'set backup writebackup backupcopy=no'"
    ' -c \'%s/"units": "m"/"units": "km"/\' -c wq d.attrs.json; rm -f d.attrs.json~',
    "vim that copies": "vim -es -u NONE -c 'set backupcopy=yes'"
    ' -c \'%s/"units": "m"/"units": "km"/\' -c wq d.attrs.json',
    "jq and mv": "jq '.units = \"km\"' d.attrs.json > tmp && mv tmp d.attrs.json",
    "jq and mv of a hidden file": "jq '.units = \"km\"' d.attrs.json > .x; mv -f .x d.attrs.json",
    "jq and cat": 't=$(jq \'.units = "km"\' d.attrs.json); echo "$t" > d.attrs.json',
    "cp": "jq '.units = \"km\"' d.attrs.json > .t; cp .t d.attrs.json; rm .t",
    "Python": 'python3 -c \'import json; v = json.load(open("d.attrs.json"));'
    ' v["units"] = "km"; json.dump(v, open("d.attrs.json", "w"))\'',
}


def test_editors_change_one_value_and_leave_all_else(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        before = types_of(opened["d"])
        for name in EDITS:
            opened.copy("d", opened.create_group(name), "d")
    with written(file) as mount:
        for name, script in EDITS.items():
            shell(script, mount.path / name)
            left = sorted(path.name for path in (mount.path / name).iterdir())
            assert left == ["d.attrs.json", "d.npy"], name
        assert mount.log_lines() == []
    with h5py.File(file) as opened:
        for name in EDITS:
            assert opened[name]["d"].attrs["units"] == "km", name
            check_types(opened[name]["d"], before)
            assert opened[name]["d"].attrs["gain"] == np.float32(0.1), name
    assert not Path(f"{file}.h5fs-left").exists()


@pytest.mark.semantics("R11")
def test_attributes_are_made_and_deleted_in_groups_datasets_and_the_root(file: Path) -> None:
    with written(file) as mount:
        (mount.path / "bare.attrs.json").write_text('{"a": 1, "b": "text", "c": [1.5, 2]}')
        (mount.path / ".attrs.json").write_text('{"title": "root", "new": true}')
        (mount.path / "g/.attrs.json").unlink()
        (mount.path / "g/h/.attrs.json").write_text(
            '{"x": 3, "$types": {"x": "<u2"}, "$$odd": null}'
        )
        value = json.loads((mount.path / "d.attrs.json").read_text())
        del value["window"]  # as jq does it: its type may stay
        (mount.path / "d.attrs.json").write_text(json.dumps(value))
        assert not (mount.path / "g/.attrs.json").exists()
        assert json.loads((mount.path / "bare.attrs.json").read_text())["c"] == [1.5, 2]
    with h5py.File(file) as opened:
        bare = opened["bare"].attrs
        assert (bare["a"], bare["b"], bare["c"].tolist()) == (1, "text", [1.5, 2])
        assert (bare.get_id("a").dtype, bare.get_id("c").dtype) == (np.int64, np.float64)
        assert h5py.check_string_dtype(bare.get_id("b").dtype) == ("utf-8", None)
        assert dict(opened.attrs) == {"title": "root", "new": np.True_}
        assert not opened["g"].attrs
        assert opened["g/h"].attrs.get_id("x").dtype == np.dtype("<u2")
        assert isinstance(opened["g/h"].attrs["$odd"], h5py.Empty)
        assert "window" not in opened["d"].attrs
        assert len(opened["d"].attrs) == 9
    check_file_opens(file)


def test_an_object_without_attributes_has_no_file_and_an_empty_one_takes_them_all(
    file: Path,
) -> None:
    with written(file) as mount:
        (mount.path / "d.attrs.json").write_text("{}")
        assert not (mount.path / "d.attrs.json").exists()
        (mount.path / "bare.attrs.json").write_text("{}")
        assert not (mount.path / "bare.attrs.json").exists()
    with h5py.File(file) as opened:
        assert not opened["d"].attrs
        assert not opened["bare"].attrs


WRONG: dict[str, Callable[[dict[str, Any]], str]] = {
    "not JSON": lambda value: json.dumps(value)[:-1],
    "no object": lambda value: "[1, 2]",
    "empty": lambda value: "",
    "not UTF-8": lambda value: '{"units": "\udcff"}',
    "NaN": lambda value: '{"gain": NaN}',
    "a key twice": lambda value: '{"a": 1, "a": 2}',
    "an unknown $": lambda value: json.dumps(value | {"$other": 1}),
    "an unknown type": lambda value: '{"a": 1, "$types": {"a": "<q9"}}',
    "an object dtype": lambda value: '{"a": 1, "$types": {"a": "|O"}}',
    "too large": lambda value: '{"a": 70000, "$types": {"a": "<u2"}}',
    "no member": lambda value: json.dumps(value | {"mode": "GREEN"}),
    "a ragged list": lambda value: '{"a": [[1, 2], [3]]}',
    "a shape that is none": lambda value: '{"a": 1, "$types": {"a": {"type": "<i4",'
    ' "shape": [4611686018427387904, 4]}}}',
    "deep": lambda value: '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
}  # fmt: skip


@pytest.mark.semantics("R8")
def test_what_is_wrong_is_einval_at_close_and_changes_nothing(file: Path) -> None:
    with written(file) as mount:
        path = mount.path / "d.attrs.json"
        before = path.read_bytes()
        value = json.loads(before)
        for name, wrong in WRONG.items():
            known = len(mount.log_lines())
            data = wrong(value).encode("utf-8", "surrogateescape")
            assert errno_of_writing(path, data) == ("close", errno.EINVAL), name
            assert path.read_bytes() == before, name
            lines = mount.log_lines()[known:]
            assert lines, name
            assert all("d.attrs.json" in line for line in lines), name
            assert errno_of_writing(mount.path / "g/.attrs.json", data)[1] == errno.EINVAL, name
            (mount.path / ".t").write_bytes(data)
            replacing = errno_of(lambda: (mount.path / ".t").rename(path))
            assert replacing == errno.EINVAL, name
            assert path.read_bytes() == before, name
            (mount.path / ".t").unlink()
        assert not any("unexpected" in line for line in mount.log_lines())
    with h5py.File(file) as opened:
        assert len(opened["d"].attrs) == 10
        assert opened["d"].attrs["units"] == "m"
        assert dict(opened["g"].attrs) == {"n": 1}


def test_a_value_that_its_old_type_cannot_hold_takes_another_type(file: Path) -> None:
    with written(file) as mount:
        value = json.loads((mount.path / "d.attrs.json").read_text())
        value["fixed"] = "longer than before"
        value["window"] = [70000, 1]
        for name in ("fixed", "window"):
            value["$types"].pop(name)
        (mount.path / "d.attrs.json").write_text(json.dumps(value))
    with h5py.File(file) as opened:
        assert opened["d"].attrs["fixed"] == "longer than before"
        assert opened["d"].attrs["window"].tolist() == [70000, 1]
        assert opened["d"].attrs.get_id("window").dtype == np.int64
        assert opened["d"].attrs.get_id("gain").dtype == np.dtype("<f4")


@pytest.mark.semantics("A6")
def test_an_attribute_that_cannot_be_read_is_kept(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=np.arange(3))
    with h5py.File(file, "a") as opened:
        opened["d"].attrs["good"] = 1
        time_type = h5py.h5t.UNIX_D32LE
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(opened["d"].id, b"strange", time_type, space)
    with written(file) as mount:
        path = mount.path / "d.attrs.json"
        value = json.loads(path.read_text())
        value["good"] = 2
        value["new"] = "x"
        path.write_text(json.dumps(value))
    with h5py.File(file) as opened:
        assert set(opened["d"].attrs) == {"good", "new", "strange"}
        assert opened["d"].attrs["good"] == 2
        assert h5py.h5a.open(opened["d"].id, b"strange").get_type().equal(time_type)


@pytest.mark.semantics("R11")
def test_attributes_may_come_before_their_dataset(file: Path) -> None:
    with written(file) as mount:
        (mount.path / "late.attrs.json").write_text('{"units": "s", "n": 3}')
        assert json.loads((mount.path / "late.attrs.json").read_text())["n"] == 3
        assert (mount.path / "late.attrs.json").exists()
        np.save(mount.path / "late.npy", np.arange(4))
        assert json.loads((mount.path / "late.attrs.json").read_text()) == {"units": "s", "n": 3}
        shell("mkdir copy; cp d.attrs.json copy/; cp d.npy copy/", mount.path)
        shell("tar c d.attrs.json d.npy | (mkdir out; cd out; tar x)", mount.path)
        shell("rsync -a d.attrs.json d.npy synced/", mount.path)
        again = shell("rsync -aic d.attrs.json d.npy synced/", mount.path)
        assert again == ""
        assert [line for line in mount.log_lines() if "WARNING" in line] == []
    with h5py.File(file) as opened:
        assert dict(opened["late"].attrs) == {"units": "s", "n": 3}
        for name in ("copy/d", "out/d", "synced/d"):
            check_types(opened[name], types_of(opened["d"]))
            assert opened[opened[name].attrs["to"]] == opened["bare"]
    assert not Path(f"{file}.h5fs-left").exists()


@pytest.mark.semantics("R11")
def test_attributes_move_with_their_object_and_go_with_it(file: Path) -> None:
    with written(file) as mount:
        shell("mv d.npy g/moved.npy; test ! -e d.attrs.json", mount.path)
        shell("mv g/moved.attrs.json .attrs.json; test ! -e g/moved.attrs.json", mount.path)
        shell("mv g renamed; rm renamed/.attrs.json", mount.path)
    with h5py.File(file) as opened:
        assert not opened["renamed/moved"].attrs
        assert not opened["renamed"].attrs
        assert opened.attrs["units"] == "m"
        assert "title" not in opened.attrs


@pytest.mark.semantics("R8", "E3")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"n": ' + "[" * 900 + "1" + "]" * 900 + "}", errno.EINVAL),
        ('{"n": 1e99999999999999999999}', errno.EINVAL),
        ("\ufeff{}", errno.EINVAL),
        ('{"n": "2020-01-01T10:00", "$types": {"n": {"class": "H5T_OPAQUE", "size": 8, '
         '"tag": "NUMPY:<M8[D]"}}}', errno.EINVAL),
        ('{"n": [1, 2], "$types": {"n": {"class": "H5T_COMPOUND", "size": 16, "fields": ['
         '{"name": "a", "offset": 0, "type": "<f8"}, {"name": "a", "offset": 8, "type": "<f8"}'
         ']}}}', errno.EINVAL),
        ('{"n": "x", "$types": {"n": "S999999999"}}', errno.EFBIG),
    ],
    ids=["deep", "exponent", "byte order mark", "date", "one name twice", "gigabyte"],
)  # fmt: skip
def test_hostile_json_is_refused_with_a_line(file: Path, text: str, expected: int) -> None:
    with written(file) as mount:
        assert errno_of_writing(mount.path / "g/.attrs.json", text.encode())[1] == expected
        lines = mount.log_lines()
        assert [line for line in lines if "/g/.attrs.json" in line]
        assert not [line for line in lines if "unexpected" in line or len(line) > 600]
        assert json.loads((mount.path / "g/.attrs.json").read_text()) == {"n": 1}
    with h5py.File(file) as opened:
        assert dict(opened["g"].attrs) == {"n": 1}


@pytest.mark.semantics("R13", "R8")
def test_a_datatype_with_more_members_than_fit_is_refused_at_once(file: Path) -> None:
    members = ", ".join(f'["m{number}", "<f8"]' for number in range(20_000))
    with written(file) as mount:
        place = mount.path / "t.dtype.json"
        assert errno_of_writing(place, f"[{members}]".encode())[1] == errno.EFBIG
        place.unlink()

"""Programs that replace files by removing them and making them anew, over a mount."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.mounts import mounted, needs_libfuse_3, run_h5fs
from support.writing import errno_of, shell, written

from h5fs.store.hidden_names import HIDDEN_PATH, nameless_name

pytestmark = needs_libfuse_3

VALUES = np.arange(24.0, dtype="f4").reshape(2, 3, 4)
DIMENSIONS = {"time": 2, "lat": 3, "lon": 4}
COUNT = 6

SCRIPTS = {
    "tar, names sorted": "tar cf {out}/t.tar --sort=name . && tar xf {out}/t.tar",
    "tar, arrays first": "find . -name '*.npy' -print -o -name '*.json' -print | sort -r"
    " | tar cf {out}/t.tar --no-recursion -T - && tar xf {out}/t.tar",
    "tar, each unlinked first": "find . -type f | sort | tar cf {out}/t.tar -T - "
    "&& tar xUf {out}/t.tar",
    "cp": "cp -r . {out}/copy && cp -rT --remove-destination {out}/copy .",
    "install": "cp -r . {out}/copy && for each in $(find . -type f | sort); do "
    "install {out}/copy/$each $each; done",
    "unzip": "cp -r . {out}/copy && (cd {out}/copy && python3 -m zipfile -c ../z.zip .) && "
    "unzip -qo {out}/z.zip",
    "git": "export HOME={out}; git init -q . && git add -A . "
    "&& git -c user.name=n -c user.email=e commit -qm all && for each in v0.npy g/v1.npy; do "
    'python3 -c "import sys; f = open(sys.argv[1], \'r+b\'); f.seek(-4, 2); f.write(b\'abcd\')"'
    " $each; done; git checkout -q . ; git status --short | wc -l; rm -rf .git",
}  # fmt: skip


def make_like_netcdf(path: Path) -> Path:
    """Make a file of variables with dimension scales, in two groups."""
    with h5py.File(path, "w") as made:
        for group in (made, made.create_group("g")):
            for name, size in DIMENSIONS.items():
                is_unlimited = name == "time"
                group.create_dataset(
                    name, data=np.arange(size), maxshape=(None,) if is_unlimited else None
                )
                group[name].make_scale(name)
                group[name].attrs["units"] = f"of {name}"
            for number in range(COUNT):
                variable = group.create_dataset(
                    f"v{number}" if number % 2 else f"a{number}", data=VALUES + number,
                    chunks=(1, 3, 4), maxshape=(None, 3, 4), compression="gzip", fillvalue=-1,
                )  # fmt: skip
                for axis, name in enumerate(DIMENSIONS):
                    variable.dims[axis].attach_scale(group[name])
                variable.attrs["n"] = np.int16(number)
            group.create_dataset("v0", data=VALUES)
            group["v0"].attrs["of"] = group["a0"].ref
            sequences = group.create_dataset("seq", (2,), h5py.vlen_dtype("i4"))
            sequences[:] = [np.arange(1), np.arange(3)]
            sequences.attrs["n"] = 1
            group["type"] = np.dtype("f8")
            group["type"].attrs["n"] = 2
            group.create_dataset("typed", data=np.arange(3.0), dtype=group["type"])
    return path


def plain(file: h5py.File, value: Any) -> Any:
    """Return a value that can be compared: what references lead to, instead of them."""
    if isinstance(value, h5py.Reference):
        return file[value].name
    if isinstance(value, np.ndarray) and value.dtype.names:
        return [[plain(file, part) for part in each] for each in value]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [plain(file, each) for each in value]
    return (str(value.dtype), value.tolist()) if isinstance(value, np.ndarray) else value


def all_of(path: Path) -> dict[str, Any]:
    """Return all that h5py says of a file's objects."""
    found: dict[str, Any] = {}

    def look(name: str, each: Any) -> None:
        attributes = {key: plain(each.file, value) for key, value in each.attrs.items()}
        found[name] = [attributes]
        if isinstance(each, h5py.Dataset):
            datatype = each.id.get_type()
            found[name] += [
                plain(each.file, each[()]), each.chunks, each.maxshape, each.compression,
                str(each.fillvalue), datatype.committed() and h5py.h5i.get_name(datatype),
            ]  # fmt: skip

    with h5py.File(path) as opened:
        opened.visititems(look)
    return found


@pytest.mark.semantics("R28")
@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_program_makes_anew_is_as_it_was(tmp_path: Path, name: str) -> None:
    programs = {"unzip", "git"} & {name}
    if not all(map(shutil.which, programs)):
        pytest.skip(f"{name} is not installed")
    file = make_like_netcdf(tmp_path / "f.h5")
    before, out = all_of(file), tmp_path / "out"
    out.mkdir()
    with written(file) as mount:
        said = shell(SCRIPTS[name].format(out=out), mount.path)
        assert said in ("", "0\n")
        told = [line for line in mount.log_lines() if "WARNING" in line]
        assert [line for line in told if "/.git/" not in line] == []  # whose links are refused
    after = all_of(file)
    assert after.keys() == before.keys()
    for each in before:
        assert after[each] == before[each], each


@pytest.mark.semantics("R28")
def test_python_that_removes_an_array_and_saves_it_keeps_its_attributes(tmp_path: Path) -> None:
    file = make_like_netcdf(tmp_path / "f.h5")
    with written(file) as mount:
        path = mount.path / "a0.npy"
        path.unlink()
        assert not (mount.path / "a0.attrs.json").exists()
        np.save(path, VALUES[:1])
        assert np.array_equal(np.load(path), VALUES[:1])
        assert os.stat(path).st_nlink == 1
        assert json.loads((mount.path / "a0.attrs.json").read_text())["n"] == 0
        shell("rm a2.npy; cp a0.npy a2.npy; test ! -e a2.attrs.json", mount.path)
    with h5py.File(file) as opened:
        assert opened["a0"].compression == "gzip"
        assert opened["a0"].dims[0][0] == opened["time"]
        assert not opened["a2"].attrs


@pytest.mark.semantics("R28", "R4")
def test_an_array_of_two_names_is_one_array_stored_as_before_when_tar_has_made_it_anew(
    tmp_path: Path,
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as made:
        made.create_dataset("a", data=VALUES, chunks=(1, 3, 4), compression="gzip", fillvalue=-1)
        made["a"].attrs["n"] = 1
        made["b"] = made["a"]
        made["refs"] = np.array([made["a"].ref, made["b"].ref], h5py.ref_dtype)
        made["refs"].attrs["to"] = made["a"].ref
    with written(file) as mount:
        shell(f"tar cf {tmp_path}/t.tar --sort=name . && tar xf {tmp_path}/t.tar", mount.path)
        assert os.stat(mount.path / "a.npy").st_nlink == 2
    with h5py.File(file) as opened:
        array = opened["a"]
        assert array == opened["b"]
        assert (array.chunks, array.compression, array.fillvalue) == ((1, 3, 4), "gzip", -1)
        assert np.array_equal(array[()], VALUES)
        assert dict(array.attrs) == {"n": 1}
        assert all(opened[each] == array for each in opened["refs"][()])
        assert opened[opened["refs"].attrs["to"]] == array


@pytest.mark.semantics("R28", "R22")
def test_an_array_that_the_library_cannot_delete_keeps_its_name(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as made:
        made["a"], made["b"] = VALUES, VALUES
        made["a"].attrs["damaged"] = 1
    data = bytearray(file.read_bytes())
    data[data.index(b"damaged\0") + 8] = 0xFF  # the version of the attribute's datatype
    file.write_bytes(data)
    with written(file) as mount:
        assert errno_of((mount.path / "a.npy").unlink) == errno.EIO
        assert np.array_equal(np.load(mount.path / "a.npy"), VALUES)
        (mount.path / "b.npy").unlink()
    with h5py.File(file, "r+") as opened:
        assert list(opened) == ["a"]
        # As mounts have left them before.
        opened.move("a", (HIDDEN_PATH + b"/" + nameless_name(800)).decode())
    with mounted(file, options=["--mode", "r+"]) as mount:
        np.save(mount.path / "c.npy", VALUES)
        assert os.listdir(mount.path) == ["c.npy"]
        assert "cannot delete" in run_h5fs("umount", mount.path).stderr
    with h5py.File(file) as opened:
        assert set(opened) == {"c", HIDDEN_PATH.decode()[1:]}

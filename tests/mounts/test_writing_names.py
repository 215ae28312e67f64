"""Names on a mount that writes: what is refused, what is scratch, what is left at the end."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import mounted
from support.reference import npy_bytes
from support.writing import errno_of, make_file, same, shell, unmount, written

VALUES = np.arange(6, dtype="<f8")
CONTENT = npy_bytes(VALUES)

IMPOSSIBLE = [
    "notes.txt", "data.h5", "x.NPY", "readme", "x.npz", "%41.npy", "x.values.txt", "a b c",
    "x.json", "bad\x01name.npy", "Makefile",
]  # fmt: skip
SCRATCH = [
    ".x.npy.Ab3dEf", "sedQx81Zt", "x.npy~", ".x.npy.swp", ".x.npy.swx", "4913", "5036", "#x.npy#",
    "x.npy.tmp", "x.npy.part", "tmp", "tmp.Ab12Cd34Ef", "tmpabcdefgh", "x.npy.bak",
    ".~lock.x.npy#", ".fuse_hidden0000000100000001", ".nfs000001", ".goutputstream-AB12CD",
    "x.npy.orig", "x.npy.Ab3dEf", "x.npy.new", "x.npy.crdownload", "XXGy8d1K", ".hidden",
    "x.npy.~1~", ".x.npy.lock", "x.npy.save", "x.npy.rej", "x.attrs.json~", ".attrs.json.swp",
]  # fmt: skip


@pytest.mark.semantics("R17")
def test_a_name_without_projection_is_einval_and_the_log_says_what_names_there_are(
    tmp_path: Path,
) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with written(file) as mount:
        for name in IMPOSSIBLE:
            path = mount.path / name
            known = len(mount.log_lines())
            assert errno_of(lambda path=path: path.write_bytes(b"x")) == errno.EINVAL, name
            lines = mount.log_lines()[known:]
            assert len(lines) == 1, (name, lines)
            assert ".npy" in lines[0] and ".attrs.json" in lines[0]
            assert name.encode("unicode_escape").decode() in lines[0]
            assert errno_of(lambda path=path: (mount.path / "d.npy").rename(path)) == errno.EINVAL
            (mount.path / ".t").write_bytes(CONTENT)
            assert errno_of(lambda path=path: (mount.path / ".t").rename(path)) == errno.EINVAL
            assert not path.exists()
        for name in ("f.npy", "g.attrs.json", "h.dtype.json", "%41", "bad\x01name", "x.values.npy"):
            assert errno_of(lambda path=mount.path / name: path.mkdir()) == errno.EINVAL, name
        assert sorted(os.listdir(mount.path)) == [".t", "d.npy"]
        (mount.path / ".t").unlink()
    with h5py.File(file) as opened:
        assert list(opened) == ["d"]


@pytest.mark.semantics("R17")
def test_scratch_files_are_files_and_not_in_the_hdf5_file(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with written(file) as mount:
        for index, name in enumerate(SCRATCH):
            path = mount.path / name
            path.write_bytes(b"anything at all")
            assert path.read_bytes() == b"anything at all"
            with open(path, "r+b") as opened:
                opened.seek(3)
                opened.write(b"!!!")
                opened.truncate(9)
            assert path.read_bytes() == b"any!!!ng "
            assert name in os.listdir(mount.path)
            path.write_bytes(npy_bytes(VALUES + index))
            path.rename(mount.path / f"{index}.npy")
            assert not path.exists()
        assert mount.log_lines() == []
    with h5py.File(file) as opened:
        assert set(opened) == {"d", *map(str, range(len(SCRATCH)))}
        for index in range(len(SCRATCH)):
            assert same(opened[str(index)][()], VALUES + index)
    assert not Path(f"{file}.h5fs-left").exists()


def test_names_of_every_kind_are_those_of_hdf5(tmp_path: Path) -> None:
    names = ["größe", "a b", "spaß & $x", "日本語", "'quoted'", "a.b.c", "x.npy", "%zz", "-a"]
    file = make_file(tmp_path / "f.h5")
    with written(file) as mount:
        for name in names:
            np.save(mount.path / f"{name}.npy", VALUES)
            (mount.path / f"{name} folder").mkdir()
        np.save(mount.path / "%0Aline.npy", VALUES)
        long = "l" * 251
        np.save(mount.path / f"{long}.npy", VALUES)
        too_long = mount.path / ("l" * 252 + ".npy")
        assert errno_of(lambda: too_long.write_bytes(CONTENT)) == errno.ENAMETOOLONG
    with h5py.File(file) as opened:
        expected = {*names, *(f"{name} folder" for name in names), "\nline", long}
        assert set(opened) == expected
        for name in names:
            info = opened.id.links.get_info(name.encode())
            assert info.cset == h5py.h5t.CSET_UTF8


@pytest.mark.semantics("R19")
def test_one_link_is_one_thing(tmp_path: Path) -> None:
    # The HDF5 file has one link "x": a folder x beside a file x.npy cannot be.
    file = make_file(tmp_path / "f.h5", x=VALUES)
    with h5py.File(file, "a") as opened:
        opened.create_group("g")
    with written(file) as mount:
        assert errno_of((mount.path / "x").mkdir) == errno.EEXIST
        assert errno_of(lambda: (mount.path / "g.npy").write_bytes(CONTENT)) == errno.EEXIST
        assert errno_of(lambda: os.symlink("g", mount.path / "x")) == errno.EEXIST
        assert errno_of(lambda: os.link(mount.path / "x.npy", mount.path / "g.npy")) == errno.EEXIST
        (mount.path / ".t").write_bytes(CONTENT)
        assert errno_of(lambda: (mount.path / ".t").rename(mount.path / "g.npy")) == errno.EEXIST
        (mount.path / ".t").unlink()
        renaming = errno_of(lambda: (mount.path / "x.npy").rename(mount.path / "g.npy"))
        assert renaming == errno.EEXIST
        assert (mount.path / "x.npy").read_bytes() == CONTENT
        assert (mount.path / "g").is_dir()
    with h5py.File(file) as opened:
        assert isinstance(opened["g"], h5py.Group)
        assert same(opened["x"][()], VALUES)


@pytest.mark.semantics("R18")
def test_what_is_left_at_the_end_is_saved_beside_the_file_and_named(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with h5py.File(file, "a") as opened:
        opened.create_group("g")
    left = tmp_path / "f.h5.h5fs-left"
    with mounted(file, options=["--mode", "r+"]) as mount:
        (mount.path / "g/waits.attrs.json").write_text('{"a": 1}')
        (mount.path / "g/.scratch").write_bytes(b"scratch")
        shell("head -c 100 d.npy > half.npy 2>/dev/null || true", mount.path)
        (mount.path / "touched.npy").touch()
        shell("mv d.npy d.npy~", mount.path)
        unmount(mount)
        log = mount.log_lines()
        for name in ("g/waits.attrs.json", "g/.scratch", "d.npy~"):
            assert any(name in line and "h5fs-left" in line for line in log), (name, log)
        assert (left / "g/waits.attrs.json").read_text() == '{"a": 1}'
        assert (left / "g/.scratch").read_bytes() == b"scratch"
        assert (left / "d.npy~").read_bytes() == CONTENT
        assert (left / "half.npy").read_bytes() == CONTENT[:100]
        assert not (left / "touched.npy").exists()
    with h5py.File(file) as opened:
        assert list(opened) == ["g"]
        assert not list(opened["g"])


@pytest.mark.semantics("R17")
def test_a_backup_of_a_dataset_that_comes_back_is_the_dataset(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened.create_dataset("d", data=VALUES, chunks=(2,), compression="gzip")
        opened["d"].attrs["units"] = "m"
    with written(file) as mount:
        shell("mv d.npy .away; cat .away | wc -c; mv .away d.npy", mount.path)
        shell("mv d.npy x~; mv x~ e.npy", mount.path)
        assert json.loads((mount.path / "e.attrs.json").read_text()) == {"units": "m"}
    with h5py.File(file) as opened:
        assert list(opened) == ["e"]
        assert opened["e"].compression == "gzip"
        assert opened["e"].attrs["units"] == "m"


def test_a_mount_that_wrote_a_backup_and_a_new_file_keeps_what_the_dataset_had(
    tmp_path: Path,
) -> None:
    # As vim (backupcopy=no) and other careful programs save: the old file goes away first.
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened.create_dataset("d", data=VALUES, chunks=(2,), compression="gzip")
        opened["d"].attrs["units"] = "m"
    with written(file) as mount:
        shell("mv d.npy d.npy~; cp d.npy~ d.npy; rm d.npy~", mount.path)
    with h5py.File(file) as opened:
        assert same(opened["d"][()], VALUES)


@pytest.mark.semantics("R15")
def test_a_symbolic_link_is_a_soft_link_by_absolute_path(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with h5py.File(file, "a") as opened:
        opened.create_group("g/h")
        opened["taken"] = VALUES
    with written(file) as mount:
        os.symlink("../../d.npy", mount.path / "g/h/up")
        os.symlink(mount.path / "g/h", mount.path / "absolute")
        os.symlink("g", mount.path / "folder")
        os.symlink("no/such.npy", mount.path / "dangling")
        os.symlink("external:other.h5:/x", mount.path / "outside")
        for text in ("/etc/passwd", "../outside", "g/../../x", "d.txt.npy/../../.."):
            place = mount.path / "wrong"
            assert errno_of(lambda to=text, at=place: os.symlink(to, at)) == errno.EINVAL, text
        assert errno_of(lambda: os.symlink("g", mount.path / "b.npy")) == errno.EINVAL
        assert errno_of(lambda: os.symlink("g", mount.path / "folder")) == errno.EEXIST
        assert (mount.path / "g/h/up").read_bytes() == CONTENT
        assert (mount.path / "absolute").is_dir()
        assert not (mount.path / "dangling").exists()
        assert (mount.path / "dangling").is_symlink()
        assert os.path.samefile(mount.path / "folder", mount.path / "g")
    with h5py.File(file) as opened:
        soft = {name: opened.get(name, getlink=True) for name in ("g/h/up", "absolute", "folder")}
        assert [link.path for link in soft.values()] == ["/d", "/g/h", "/g"]
        assert opened.get("dangling", getlink=True).path == "/no/such"
        outside = opened.get("outside", getlink=True)
        assert (outside.filename, outside.path) == ("other.h5", "/x")


@pytest.mark.semantics("R9")
@pytest.mark.parametrize("name", ["x.npy", "x.attrs.json", ".attrs.json"])
def test_touch_makes_an_empty_file_that_is_not_in_the_hdf5_file(tmp_path: Path, name: str) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with written(file) as mount:
        shell(f"touch {name}; test -e {name}; test ! -s {name}", mount.path)
        assert [line for line in mount.log_lines() if "WARNING" in line] == []
    with h5py.File(file) as opened:
        assert list(opened) == ["d"]
        assert not opened.attrs


@pytest.mark.semantics("R19")
def test_the_other_file_of_an_external_link_is_only_read(tmp_path: Path) -> None:
    other = make_file(tmp_path / "other.h5", **{"g/x": VALUES})
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with h5py.File(file, "a") as opened:
        opened["far"] = h5py.ExternalLink("other.h5", "/g")
    before = other.read_bytes()
    with written(file) as mount:
        far = mount.path / "far"
        actions = {
            "create": lambda: (far / "new.npy").write_bytes(CONTENT),
            "scratch": lambda: (far / ".t").write_bytes(b"x"),
            "write": lambda: open(far / "x.npy", "r+b").close(),
            "truncate": lambda: os.truncate(far / "x.npy", 0),
            "mkdir": (far / "new").mkdir,
            "unlink": (far / "x.npy").unlink,
            "rename": lambda: (far / "x.npy").rename(far / "y.npy"),
            "rename in": lambda: (mount.path / "d.npy").rename(far / "d.npy"),
            "symlink": lambda: os.symlink("x.npy", far / "s"),
            "attributes": lambda: (far / ".attrs.json").write_text("{}"),
        }
        for name, action in actions.items():
            assert errno_of(action) == errno.EROFS, name
        linking = errno_of(lambda: os.link(far / "x.npy", mount.path / "y.npy"))
        assert linking in (errno.EXDEV, errno.EROFS)
        out = errno_of(lambda: (far / "x.npy").rename(mount.path / "y.npy"))
        assert out in (errno.EXDEV, errno.EROFS)
        assert (far / "x.npy").read_bytes() == CONTENT
        shell("cp far/x.npy here.npy; rm far 2>/dev/null || true", mount.path)
    assert other.read_bytes() == before
    with h5py.File(file) as opened:
        assert same(opened["here"][()], VALUES)


@pytest.mark.semantics("S10")
def test_a_folder_that_is_being_read_is_listed_as_it_was(tmp_path: Path) -> None:
    """Of more dentries than one request has room for, some go and some come meanwhile."""
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        for number in range(3000):
            opened[f"d{number:04}"] = number
    before = {f"d{number:04}.npy" for number in range(3000)}
    with written(file) as mount:
        with os.scandir(mount.path) as entries:
            names = [next(entries).name]
            (mount.path / "d2999.npy").unlink()
            (mount.path / "d0000.npy").unlink()
            np.save(mount.path / "d1500a.npy", VALUES)
            names += [entry.name for entry in entries]
        assert len(names) == len(set(names))
        assert set(names) == before
        assert set(os.listdir(mount.path)) == before - {"d2999.npy", "d0000.npy"} | {"d1500a.npy"}

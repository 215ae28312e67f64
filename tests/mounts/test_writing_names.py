"""Names on a mount that writes: what is refused, what is scratch, what is left at the end."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import mounted
from support.reference import npy_bytes
from support.waiting import PATIENCE_SECONDS
from support.writing import errno_of, make_file, read_tree, same, shell, unmount, written

VALUES = np.arange(6, dtype="<f8")
CONTENT = npy_bytes(VALUES)

IMPOSSIBLE = [
    "notes.txt", "data.h5", "x.NPY", "readme", "x.npz", "%41.npy", "x.values.txt", "a b c",
    "x.json", "bad\x01name.npy", "Makefile",
]  # fmt: skip
# What a person would type: taken for scratch names, they would be left out without a word.
TYPED = [
    "model.joblib", "table.pickle", "data.sqlite", "my_folder", "results.csv", "temperature.csv",
    "template", "2024", "Customer", "sediment", "sedentary", "data.party", "notes.backup",
    "x.npy.gz", "x.npy.txt", "x.npy.bak", "x.npy.old", "x.npy.new", "x.npy.backup", "x.npy.copy",
    "x.npy.1", "x.npy.20240101", "x.npy2", "table.parquet", "x.npy.parquet", "run_second", "tempo",
    "x.download", "data.lock", "run.Ab3dEf", "XXL", "tmpl", "x.npy.before",
]  # fmt: skip
SCRATCH = [
    ".x.npy.Ab3dEf", "sedQx81Zt", "x.npy~", ".x.npy.swp", ".x.npy.swx", "4913", "5036", "#x.npy#",
    "x.npy.tmp", "x.npy.part", "tmp", "tmp.Ab12Cd34Ef", "tmpabcdefgh", "x.tmp", "x.tmp.1234",
    ".~lock.x.npy#", ".fuse_hidden0000000100000001", ".nfs000001", ".goutputstream-AB12CD",
    "x.npy.orig", "x.npy.Ab3dEf", "x.npy.crdownload", "XXGy8d1K", ".hidden",
    "x.npy.~1~", ".x.npy.lock", "x.npy.save", "x.npy.rej", "x.attrs.json~", ".attrs.json.swp",
    "x.npy.fde07ce8", "x.npy.Fde07cE8", "x.npy.oAb3dEf", "x.attrs.json.obackup",
    "x.npy___jb_tmp___", "x.npy___jb_old___", "x.npy.3412345678", "x.npy3412345678",
    "x.npy_.gstmp", "x.npy.1a2b3c4d.partial", "x.npy.lock", "x.npy.temp",
]  # fmt: skip


@pytest.mark.semantics("R17")
def test_a_name_without_projection_is_einval_and_the_log_says_what_names_there_are(
    tmp_path: Path,
) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with written(file) as mount:
        for name in IMPOSSIBLE + TYPED:
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


@pytest.mark.semantics("R17")
@pytest.mark.parametrize("name", ["x.Ab3dEf", "anything", "x.npyabcdef", "data.csv"])
def test_what_mkstemp_makes_is_a_scratch_file_whatever_its_name(tmp_path: Path, name: str) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with written(file) as mount:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(mount.path / name, flags, 0o600), "wb") as made:
            made.write(CONTENT)
        assert os.listdir(mount.path) == ["d.npy", name]
        (mount.path / name).rename(mount.path / "x.npy")
        for other in (os.O_WRONLY | os.O_CREAT | os.O_EXCL, os.O_RDWR | os.O_CREAT):
            refused = errno_of(lambda how=other: os.open(mount.path / "other", how, 0o600))
            assert refused == errno.EINVAL
    with h5py.File(file) as opened:
        assert same(opened["x"][()], VALUES)


@pytest.mark.semantics("R17")
def test_a_hidden_folder_is_outside_of_the_hdf5_file_and_holds_anything(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with h5py.File(file, "a") as opened:
        opened.create_group("g")
        opened.create_group(".there")
    left = tmp_path / "f.h5.h5fs-left"
    with mounted(file, options=["--mode", "r+"]) as mount:
        trash = mount.path / "g/.Trash-0"
        (trash / "files/deep").mkdir(parents=True)
        (trash / "info.csv").write_text("any name")
        (trash / "files/x.npy").write_bytes(b"no array")
        (trash / "files/deep/results.csv").write_text("a,b")
        os.symlink("/etc/../nowhere", trash / "link")
        assert os.readlink(trash / "link") == "/etc/../nowhere"
        assert sorted(os.listdir(trash)) == ["files", "info.csv", "link"]
        assert (trash / "files").is_dir()
        assert errno_of((trash / "files").rmdir) == errno.ENOTEMPTY
        assert errno_of((mount.path / "g").rmdir) == errno.ENOTEMPTY
        assert errno_of((trash / "files").mkdir) == errno.EEXIST
        assert errno_of((trash / "no/such").mkdir) == errno.ENOENT
        assert errno_of((trash / "files").unlink) == errno.EISDIR
        (trash / "files/deep").rename(trash / "deeper")
        assert (trash / "deeper/results.csv").read_text() == "a,b"
        (mount.path / "g").rename(mount.path / "h")
        trash = mount.path / "h/.Trash-0"
        assert (trash / "deeper/results.csv").read_text() == "a,b"
        # What goes between there and the HDF5 file as a whole is copied by `mv`.
        assert errno_of(lambda: trash.rename(mount.path / "k")) == errno.EXDEV
        assert errno_of(lambda: (mount.path / "h").rename(mount.path / ".there/..x")) is None
        (mount.path / ".there/..x").rename(mount.path / "h")
        shell("mv h/.Trash-0/deeper . 2>/dev/null && exit 1; rm -rf deeper; true", mount.path)
        (trash / "link").unlink()
        np.save(mount.path / ".there/y.npy", VALUES)
        unmount(mount, leaves=True)
        assert (left / "h/.Trash-0/info.csv").read_text() == "any name"
        assert (left / "h/.Trash-0/files/x.npy").read_bytes() == b"no array"
    with h5py.File(file) as opened:
        assert set(opened) == {"d", "h", ".there"}
        assert list(opened["h"]) == []
        assert same(opened[".there/y"][()], VALUES)


@pytest.mark.semantics("R17")
def test_a_dataset_in_the_trash_comes_back_as_it_was(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5")
    with h5py.File(file, "a") as opened:
        opened.create_dataset("d", data=VALUES, chunks=(2,), compression="gzip")
        opened["d"].attrs["units"] = "m"
    with written(file) as mount:
        files = mount.path / ".Trash-0/files"
        files.mkdir(parents=True)
        (mount.path / "d.npy").rename(files / "d.npy")
        assert os.listdir(mount.path) == [".Trash-0"]
        assert (files / "d.npy").read_bytes() == CONTENT
        (files / "d.npy").rename(mount.path / "d.npy")
        shell("rm -r .Trash-0; ls -A", mount.path)
        assert sorted(os.listdir(mount.path)) == ["d.attrs.json", "d.npy"]
    with h5py.File(file) as opened:
        assert opened["d"].compression == "gzip"
        assert opened["d"].attrs["units"] == "m"


@pytest.mark.semantics("R17")
@pytest.mark.skipif(shutil.which("gio") is None, reason="gio is not installed")
def test_gio_trash_ends_and_works_or_fails(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with h5py.File(file, "a") as opened:
        opened["g/x"] = VALUES
    with written(file) as mount:
        for name in ("d.npy", "g"):
            done = subprocess.run(
                ["gio", "trash", str(mount.path / name)],
                capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
            )  # fmt: skip
            assert (done.returncode == 0) != (mount.path / name).exists(), done.stderr
        shutil.rmtree(mount.path / f".Trash-{os.getuid()}", ignore_errors=True)


@pytest.mark.semantics("R17")
def test_trash_as_trash_put_and_jupyter_do_it(tmp_path: Path) -> None:
    # trash-cli: the info file first, another name for as long as one is refused; then the rename.
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with h5py.File(file, "a") as opened:
        opened["g/x"] = VALUES
    with written(file) as mount:
        trash = mount.path / ".Trash-0"
        for folder in (trash, trash / "files", trash / "info"):
            folder.mkdir(mode=0o700)
        for name in ("d.npy", "g"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            info = trash / f"info/{name}.trashinfo"
            with os.fdopen(os.open(info, flags, 0o600), "wb") as made:
                made.write(b"[Trash Info]\n")
            shutil.move(mount.path / name, trash / "files" / name)
            assert not (mount.path / name).exists()
        assert (trash / "files/d.npy").read_bytes() == CONTENT
        assert (trash / "files/g/x.npy").read_bytes() == CONTENT
        shutil.rmtree(trash)
        (mount.path / ".ipynb_checkpoints").mkdir()
        (mount.path / ".ipynb_checkpoints/x-checkpoint.ipynb").write_text("{}")
        shutil.rmtree(mount.path / ".ipynb_checkpoints")
    with h5py.File(file) as opened:
        assert list(opened) == []


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
            is_plain = name.isascii()  # as h5py stores it
            assert info.cset == (h5py.h5t.CSET_ASCII if is_plain else h5py.h5t.CSET_UTF8)


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
        unmount(mount, leaves=True)
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


@pytest.mark.semantics("R18")
def test_what_is_left_goes_to_a_new_folder_that_only_readers_of_the_file_may_read(
    tmp_path: Path,
) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "f.h5.h5fs-left.1").symlink_to(elsewhere)
    (tmp_path / "f.h5.h5fs-left.2").symlink_to(tmp_path / "nowhere")
    expected = {0o600: (0o700, 0o600), 0o640: (0o750, 0o640), 0o644: (0o755, 0o644)}
    lefts = []
    for number, (mode, (folder_mode, file_mode)) in enumerate(expected.items()):
        file.chmod(mode)
        if os.geteuid() == 0:
            os.chown(file, 4321, 4322)
        with written(file, leaves=True) as mount:
            (mount.path / ".git").mkdir()
            (mount.path / ".git/HEAD").write_text(f"ref {number}")
            os.symlink("/etc/passwd", mount.path / ".git/link")
        left = tmp_path / ("f.h5.h5fs-left" if number == 0 else f"f.h5.h5fs-left.{number + 2}")
        lefts.append(left)
        for path, wanted in ((left, folder_mode), (left / ".git", folder_mode),
                             (left / ".git/HEAD", file_mode)):  # fmt: skip
            status = path.lstat()
            assert status.st_mode & 0o7777 == wanted, path
            assert (status.st_uid, status.st_gid) == (file.stat().st_uid, file.stat().st_gid)
        assert os.readlink(left / ".git/link") == "/etc/passwd"
    # What earlier mounts left is still there, and nothing went through the links.
    assert [(left / ".git/HEAD").read_text() for left in lefts] == ["ref 0", "ref 1", "ref 2"]
    assert os.listdir(elsewhere) == []
    assert not (tmp_path / "nowhere").exists()


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
def test_a_symbolic_link_is_a_soft_link(tmp_path: Path) -> None:
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
        assert errno_of(lambda: os.symlink("g", mount.path / "folder")) == errno.EEXIST
        assert (mount.path / "g/h/up").read_bytes() == CONTENT
        assert (mount.path / "absolute").is_dir()
        assert not (mount.path / "dangling").exists()
        assert (mount.path / "dangling").is_symlink()
        assert os.path.samefile(mount.path / "folder", mount.path / "g")
    with h5py.File(file) as opened:
        soft = {name: opened.get(name, getlink=True) for name in ("g/h/up", "absolute", "folder")}
        # HDF5 has no "..", so that a text with one becomes the absolute path.
        assert [link.path for link in soft.values()] == ["/d", "/g/h", "g"]
        assert opened.get("dangling", getlink=True).path == "no/such"
        outside = opened.get("outside", getlink=True)
        assert (outside.filename, outside.path) == ("other.h5", "/x")


@pytest.mark.semantics("R15", "N3", "N5", "L1")
def test_a_symbolic_link_may_end_as_a_file_does_whatever_it_leads_to(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", real=VALUES)
    with h5py.File(file, "a") as opened:
        opened.create_group("g")
        opened["real"].attrs["a"] = 1
        opened["soft"] = h5py.SoftLink("/real")
        opened["soft.npy"] = h5py.SoftLink("/real")
        opened["dots"] = h5py.SoftLink("/./././real")
    texts = {
        "latest.npy": "real.npy", "folder.npy": "g", "late.npy": "nosuch.npy",
        "bare.npy": "nosuch", "meta.attrs.json": "real.attrs.json",
        "type.dtype.json": "no.dtype.json",
        "g/up.npy": "../real.npy", "g/in.npy": "h/x.npy", "v.values.npy": "w.values.npy",
        "chain.npy": "soft", "plain": "real.npy",
    }  # fmt: skip
    with written(file) as mount:
        for name, text in texts.items():
            os.symlink(text, mount.path / name)
        assert {name: os.readlink(mount.path / name) for name in texts} == texts
        assert (mount.path / "latest.npy").read_bytes() == CONTENT
        assert (mount.path / "g/up.npy").read_bytes() == CONTENT
        assert (mount.path / "chain.npy").read_bytes() == CONTENT
        assert json.loads((mount.path / "meta.attrs.json").read_text()) == {"a": 1}
        assert (mount.path / "folder.npy").is_dir()
        shown = set(os.listdir(mount.path))
        assert {"soft", "soft%2Enpy", "dots"} <= shown
        assert {name for name in texts if "/" not in name} <= shown
        for name in ("latest", "soft.npy", "latest.attrs.json"):
            assert not os.path.lexists(mount.path / name), name
        assert errno_of((mount.path / "latest").mkdir) == errno.EEXIST
        taken = errno_of(lambda: os.symlink("g", mount.path / "latest.attrs.json"))
        assert taken == errno.EEXIST
        unlike = errno_of(lambda: os.symlink("a.values.npy", mount.path / "b.npy"))
        assert unlike == errno.EINVAL
        np.save(mount.path / "latest.npy", VALUES + 1)  # through the link
    for mode in ("r", "r+"):
        with written(file, mode=mode) as mount:
            assert {name: os.readlink(mount.path / name) for name in texts} == texts
            assert os.readlink(mount.path / "soft%2Enpy") == "real.npy"
    with h5py.File(file) as opened:
        assert same(opened["real"][()], VALUES + 1)
        assert opened["latest"] == opened["real"] == opened["g/up"] == opened["chain"]
        assert opened["latest"].attrs["a"] == 1


@pytest.mark.semantics("R15", "R14")
def test_symbolic_links_are_renamed_replaced_and_removed_under_their_names(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", real=VALUES, other=VALUES + 1)
    with h5py.File(file, "a") as opened:
        opened.create_group("g")
    with written(file) as mount:
        script = """
            ln -s real.npy latest.npy; ln -sf other.npy latest.npy; readlink latest.npy
            mv latest.npy newest; readlink newest; mv newest latest.npy; readlink latest.npy
            ln -sfn g latest.npy; readlink latest.npy; ln -sfn real.npy latest.npy
            mv latest.npy g/moved.npy; readlink g/moved.npy; mv g/moved.npy .
            cp real.npy .t; ln -s real.npy over.npy; mv .t over.npy; test ! -L over.npy
            ln -s real.npy gone.npy; rm gone.npy; mkdir gone; rmdir gone
            ln -s real.npy both.npy; cp --remove-destination other.npy both.npy
            touch -h -d '2020-02-02 UTC' moved.npy; stat -c %Y moved.npy
        """
        out = shell(script, mount.path).split()
        assert out == [
            "other.npy", "other.npy", "other.npy", "g", "real.npy", "1580601600"
        ]  # fmt: skip
        (mount.path / ".bad").write_bytes(b"no array")
        failed = errno_of(lambda: (mount.path / ".bad").rename(mount.path / "moved.npy"))
        assert failed == errno.EINVAL
        assert os.readlink(mount.path / "moved.npy") == "real.npy"
        (mount.path / ".bad").unlink()
    with h5py.File(file) as opened:
        assert set(opened) == {"real", "other", "g", "moved", "over", "both"}
        assert isinstance(opened.get("over", getlink=True), h5py.HardLink)
        assert same(opened["both"][()], VALUES + 1)
        assert same(opened["real"][()], VALUES)
        assert opened["moved"] == opened["real"]


@pytest.mark.semantics("R15")
@pytest.mark.parametrize(
    "name", ["real.attrs.json", "type.attrs.json", "pair.values.npy", "pair.offsets.npy"]
)
def test_no_link_takes_the_place_of_a_part_of_an_object(tmp_path: Path, name: str) -> None:
    """HDF5 has one link of a name: the object would be gone, or that part of it."""
    file = make_file(tmp_path / "f.h5", real=VALUES)
    with h5py.File(file, "a") as opened:
        opened["type"] = np.dtype("<i4")
        for owner in ("real", "type"):
            opened[owner].attrs["a"] = 1
        opened.create_dataset("pair", (1,), h5py.vlen_dtype("<i4"))[0] = [1, 2]
        opened["g/d"] = VALUES
        opened["to group"] = h5py.SoftLink("/g")
        opened["dangling"] = h5py.SoftLink("/nothing")
    with written(file) as mount:
        before = read_tree(mount.path)
        os.symlink("g", mount.path / ".hidden")
        for link in ("to group", "dangling", ".hidden"):
            with pytest.raises(FileExistsError):
                (mount.path / link).rename(mount.path / name)
        (mount.path / ".hidden").unlink()
        assert read_tree(mount.path) == before
    with h5py.File(file) as opened:
        assert dict(opened["type"].attrs) == dict(opened["real"].attrs) == {"a": 1}
        assert same(opened["real"][()], VALUES)
        assert opened["pair"][0].tolist() == [1, 2]


@pytest.mark.semantics("R15", "R17")
@pytest.mark.parametrize("way", ["cp -a", "rsync -a", "tar", "rsync twice"])
def test_an_everyday_folder_with_links_goes_in_and_comes_out(tmp_path: Path, way: str) -> None:
    plain = tmp_path / "plain"
    (plain / "runs/a").mkdir(parents=True)
    (plain / "runs/b").mkdir()
    for number, name in enumerate(["runs/a/x.npy", "runs/b/x.npy", "z.npy"]):
        np.save(plain / name, VALUES + number)
    (plain / "z.attrs.json").write_text('{\n  "a": 1\n}\n')
    links = {
        "latest.npy": "z.npy", "last": "runs/b", "runs/current": "b",
        "runs/b/up.npy": "../../z.npy",
        "aaa.npy": "runs/a/x.npy", "meta.attrs.json": "z.attrs.json", "runs/a/back": "../b",
        "runs/a/dangling.npy": "../../no/such.npy", "a.csv": "b.csv",
    }  # fmt: skip
    for name, text in links.items():
        os.symlink(text, plain / name)
    file = tmp_path / "f.h5"
    scripts = {
        "cp -a": "cp -a {0}/. {1}/",
        "rsync -a": "rsync -a {0}/ {1}/",
        "rsync twice": "rsync -a {0}/ {1}/; rsync -a {0}/ {1}/",
        "tar": "tar c -C {0} . | tar x -C {1}",
    }
    with written(file, mode="x") as mount:
        shell(scripts[way].format(plain, mount.path), tmp_path)
        for name, text in links.items():
            assert (mount.path / name).is_symlink(), name
            there, here = (mount.path / name).resolve(), (plain / name).resolve()
            assert there.relative_to(mount.path.resolve()) == here.relative_to(plain), (name, text)
        out = tmp_path / "out"
        shell(f"cp -a {mount.path}/. {out}", tmp_path)
        assert [line for line in mount.log_lines() if "WARNING" in line] == []
    ours, expected = read_tree(out), read_tree(plain)
    assert (ours.folders, ours.files) == (expected.folders, expected.files)
    assert set(ours.links) == set(links)
    assert ours.links == {**links, "runs/a/back": "../../runs/b"}
    assert not Path(f"{file}.h5fs-left").exists()


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

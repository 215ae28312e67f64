"""``h5fs cp`` between folders and HDF5 files."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from h5fs.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files, beside the working directory."""
    (tmp_path / "data/sub").mkdir(parents=True)
    np.save(tmp_path / "data/x.npy", np.arange(3.0))
    (tmp_path / "data/x.attrs.json").write_text('{"units": "m"}')
    np.save(tmp_path / "data/sub/y.npy", np.arange(4))
    (tmp_path / "data/link").symlink_to("sub")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.mark.semantics("C3")
def test_a_folder_with_a_slash_or_dot_at_its_end_means_what_is_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("data/.", "data/"):
        assert main.main(["cp", text, "a.h5:/"]) == 0  # the second time, all is there already
    assert main.main(["cp", "data/link", "a.h5:/"]) == 0  # the link itself, under its own name
    assert main.main(["cp", "data/link/", "a.h5:/new"]) == 0  # what it leads to
    monkeypatch.chdir(folder)
    assert main.main(["cp", ".", f"{folder.parent}/a.h5:/sub"]) == 0
    with h5py.File(folder.parent / "a.h5") as opened:
        assert sorted(opened) == ["link", "new", "sub", "x"]
        assert opened.get("link", getlink=True).path == "sub"
        assert opened["x"].attrs["units"] == "m"
        assert sorted(opened["new"]) == ["y"]
        assert sorted(opened["sub"]) == ["link", "sub", "x", "y"]


@pytest.mark.semantics("C3")
def test_out_of_a_file_as_well(folder: Path) -> None:
    assert main.main(["cp", "-a", "data", "a.h5:/"]) == 0
    (folder.parent / "out").mkdir()
    for _ in range(2):
        assert main.main(["cp", "a.h5:/data/.", "out"]) == 0
    assert sorted(os.listdir("out")) == ["link", "sub", "x.attrs.json", "x.npy"]
    assert main.main(["cp", "a.h5:/data", "out"]) == 0
    assert sorted(os.listdir("out/data")) == ["link", "sub", "x.attrs.json", "x.npy"]


@pytest.mark.semantics("C3")
def test_what_is_refused_is_a_line_and_all_else_is_copied(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a.npy").write_bytes(b"no array")
    (folder / "b.attrs.json").write_text("{bad")
    (folder / "c.attrs.json").write_text('{"of": "nothing"}')
    (folder / "notes.txt").write_text("text")
    assert main.main(["cp", "data/.", "a.h5:/"]) == 1
    lines = capsys.readouterr().err.splitlines() + caplog.messages
    refused = ("data/a.npy: ", "data/b.attrs.json: ", "/c.attrs.json is not", "data/notes.txt: ")
    assert len(lines) == len(refused)
    assert all(any(text in line for line in lines) for text in refused), lines
    assert main.main(["cp", "data/x.npy", "a.h5:/link"]) == 1  # nothing is written through a link
    assert "a symbolic link is in the way" in capsys.readouterr().err
    with h5py.File("a.h5") as opened:
        assert sorted(opened) == ["link", "sub", "x"]
    assert Path("a.h5.h5fs-left/c.attrs.json").read_text() == '{"of": "nothing"}'


def make_rich_file(path: Path) -> None:
    """A file with what a ``.npy`` cannot keep, and with references of every kind."""
    with h5py.File(path, "w") as opened:
        opened["out"] = [1, 2]
        group = opened.create_group("g")
        group.attrs["of"] = opened["g"].ref
        group.create_dataset(
            "x", data=np.arange(12.0), chunks=(5,), maxshape=(None,), compression="gzip",
            shuffle=True, fillvalue=-1,
        )  # fmt: skip
        group["x"].make_scale("x")
        group["twin"] = group["x"]
        group["empty"] = h5py.Empty("f8")
        group.create_dataset("d", data=np.zeros(12)).dims[0].attach_scale(group["x"])
        for name, target in (("soft", "/g/x"), ("near", "x"), ("far", "/out")):
            group[name] = h5py.SoftLink(target)
        here, out = group["x"].ref, opened["out"].ref
        group["refs"] = np.array([here, out, None], h5py.ref_dtype)
        group["regions"] = np.array([group["x"].regionref[1:3]], h5py.regionref_dtype)
        group["pairs"] = np.array([(1, here), (2, out)], [("n", "i4"), ("r", h5py.ref_dtype)])
        lists = group.create_dataset("lists", (2,), h5py.vlen_dtype(h5py.ref_dtype))
        lists[0] = np.array([here, here], h5py.ref_dtype)


def check_rich_copy(opened: h5py.File, group: h5py.Group) -> None:
    x = group["x"]
    assert (x.chunks, x.maxshape, x.compression, x.shuffle, x.fillvalue) == (
        (5,), (None,), "gzip", True, -1
    )  # fmt: skip
    assert (x[:] == np.arange(12.0)).all() and group["twin"] == x
    assert group["empty"].shape is None
    assert group["d"].dims[0][0] == x and opened[x.attrs["REFERENCE_LIST"][0][0]] == group["d"]
    assert group["soft"] == x and group["near"] == x
    assert group.get("far", getlink=True).path == "/out"
    assert opened[group["refs"][0]] == x and not group["refs"][1] and not group["refs"][2]
    region = group["regions"][0]
    assert opened[region] == x and list(x[region]) == [1, 2]
    assert opened[group["pairs"][0]["r"]] == x and not group["pairs"][1]["r"]
    assert [opened[each] for each in group["lists"][0]] == [x, x] and not len(group["lists"][1])
    assert opened[group.attrs["of"]] == group


@pytest.mark.semantics("C11")
def test_from_file_to_file_everything_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_rich_file(tmp_path / "a.h5")
    assert main.main(["cp", "a.h5:/g", "b.h5:/y"]) == 0
    assert main.main(["cp", "a.h5:/g", "b.h5:/y"]) == 0  # into the group that is there
    assert main.main(["cp", "a.h5:/g/.", "b.h5:/"]) == 0
    assert main.main(["cp", "a.h5:/out.npy", "b.h5:/other.npy"]) == 0
    with h5py.File("b.h5") as opened:
        assert sorted(set(opened) - set(opened["y/g"])) == ["other", "y"]
        for group in (opened["y"], opened["y/g"], opened["/"]):
            check_rich_copy(opened, group)
    assert capsys.readouterr().err == ""
    assert main.main(["cp", "a.h5:/out", "b.h5:/other"]) == 1
    assert "exists" in capsys.readouterr().err
    before = (tmp_path / "b.h5").read_bytes()
    assert main.main(["cp", "a.h5:/g/.", "b.h5:/"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 12  # 11 objects, 1 attribute
    assert (tmp_path / "b.h5").read_bytes() == before
    for source, target in (("a.h5:/none", "b.h5:/n"), ("a.h5:/g", "b.h5:/g.npy"),
                           ("b.h5:/y", "b.h5:/y/z")):  # fmt: skip
        assert main.main(["cp", source, target]) == 1, source
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.semantics("C11")
@pytest.mark.parametrize("size", [512, 2**20])
def test_a_copy_of_a_whole_file_begins_with_its_user_block(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    block = b"MATLAB 7.3 MAT-file".ljust(124) + bytes(range(256)) * (size // 256)
    with h5py.File("a.mat", "w", userblock_size=size) as opened:
        opened["g/x"] = np.arange(1000)
        opened["g/x"].attrs["MATLAB_class"] = np.bytes_("double")
        opened.attrs["of"] = opened["g/x"].ref
    with open("a.mat", "r+b") as file:
        file.write(block[:size])
    h5py.File("d.mat", "w").close()
    open("b.mat", "wb").close()  # as a copy leaves it that was killed
    for target in ("b.mat:/", "c.mat:/y", "d.mat:/"):
        assert main.main(["cp", "a.mat:/", target]) == 0
    with open("b.mat", "rb") as file:
        assert file.read(size) == block[:size]
    with h5py.File("b.mat", "r+") as opened:
        assert opened.userblock_size == size
        assert opened[opened.attrs["of"]] == opened["g/x"]
        assert opened["g/x"][999] == 999 and opened["g/x"].attrs["MATLAB_class"] == b"double"
        opened["g/y"] = 1
    for name in ("c.mat", "d.mat"):  # of a part, and one that was there
        with h5py.File(name) as opened:
            assert opened.userblock_size == 0
    assert main.main(["check", "b.mat"]) == 0
    assert not (tmp_path / "b.mat.h5fs-log").exists()


@pytest.mark.semantics("C11")
def test_a_copy_beside_what_is_there_replaces_no_attribute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, title in (("a.h5", "from a"), ("b.h5", "of b")):
        with h5py.File(name, "w") as opened:
            opened.attrs["title"] = title
            opened.attrs[f"only in {name}"] = 1
            opened[f"x of {name}"] = 1
    assert main.main(["cp", "a.h5:/", "b.h5:/"]) == 1
    assert capsys.readouterr().err.endswith("/attribute title: it exists\n")
    with h5py.File("b.h5") as opened:
        assert opened.attrs["title"] == "of b"
        assert set(opened.attrs) == {"title", "only in a.h5", "only in b.h5"}
        assert set(opened) == {"x of a.h5", "x of b.h5"}


@pytest.mark.semantics("C11")
@pytest.mark.parametrize("copied", ["a.h5:/", "a.h5:/g", "a.h5:/g/text"])
def test_a_fill_value_of_variable_length_comes_along(
    copied: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As netCDF-4 gives every variable of strings; ``H5Ocopy`` leaves it in the other file."""
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w", track_order=True) as opened:
        group = opened.create_group("g", track_order=True)
        text = group.create_dataset(
            "text", (5,), h5py.string_dtype(), fillvalue="none", chunks=(2,), maxshape=(None,)
        )
        text[:2] = ["ä", ""]
        text.attrs["units"] = "m"
        text.attrs["text"] = text.ref
        text.attrs["nothing"] = h5py.Empty("f4")
        group["last"] = text.ref
        group["again"] = text
        group["a"] = 1
    assert main.main(["cp", copied, "b.h5:/" + "g/" * copied.endswith("/g")]) == 0
    with h5py.File("b.h5", "r+") as opened:  # in mode r, HDF5 reads no such value
        found = opened["text"] if copied.endswith("text") else opened["g/text"]
        assert found.fillvalue == b"none"
        assert list(found.asstr()[:]) == ["ä", "", "none", "none", "none"]
        assert (found.chunks, found.maxshape) == ((2,), (None,))
        assert found.attrs["units"] == "m"
        assert opened[found.attrs["text"]] == found
        assert found.attrs["nothing"] == h5py.Empty("f4")
        if not copied.endswith("text"):
            assert list(opened["g"]) == ["text", "last", "again", "a"]
            assert opened["g/again"] == found
            assert opened[opened["g/last"][()]] == found

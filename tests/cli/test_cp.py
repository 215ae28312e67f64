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
    assert main.main(["cp", "data", "a.h5:/"]) == 0
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

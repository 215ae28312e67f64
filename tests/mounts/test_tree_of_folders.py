"""``h5fs tree FOLDER``, beside a mount of the same folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.mounts import mounted, run_h5fs

from h5fs.cli import main
from h5fs.cli.commands import without_mount
from h5fs.cli.entries import folder_entries
from h5fs.cli.entries.tree_entries import Extent
from h5fs.model.settings import StoreOptions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "files"
    (place / "sub" / "empty").mkdir(parents=True)
    for name in ("a.h5", "sub/b"):
        with h5py.File(place / name, "w") as opened:
            opened["g/data"] = np.arange(6).reshape(2, 3)
            opened["g"].attrs["unit"] = "m"
            opened["soft"] = h5py.SoftLink("/g/data")
            opened.attrs["title"] = "x"
    whole = (place / "a.h5").read_bytes()
    (place / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (place / "notes.txt").write_text("hello")
    (place / "link").symlink_to("a.h5")
    return place


def every(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        yield entry
        yield from every(entry.get("entries", []))


@pytest.mark.semantics("C12")
def test_a_folder_is_listed_as_its_mount_shows_it(folder: Path) -> None:
    done = run_h5fs("tree", folder, "--json")
    assert (done.returncode, done.stderr) == (1, "")  # one file cannot be opened
    found = {entry["path"]: entry for entry in every(json.loads(done.stdout))}
    with mounted(folder) as mount:
        shown = {
            "/" + str(Path(place, name).relative_to(mount.path)): Path(place, name).lstat().st_size
            for place, folders, files in os.walk(mount.path)  # passes over what cannot be listed
            for name in [*folders, *files]
            if not name.endswith(".attrs.json")
        }
    assert found.keys() == shown.keys()
    for path, entry in found.items():
        if entry["kind"] in ("dataset", "file"):
            assert entry["size_bytes"] == shown[path]
    kinds = {path: entry["kind"] for path, entry in found.items() if path.count("/") == 1}
    assert kinds == {
        "/a.h5": "hdf5", "/cut.h5": "hdf5", "/link": "link", "/notes.txt": "file", "/sub": "folder"
    }  # fmt: skip
    assert "is cut short" in found["/cut.h5"]["error"]
    assert [path for path, entry in found.items() if "error" in entry] == ["/cut.h5"]
    assert found["/a.h5"]["size_bytes"] == (folder / "a.h5").stat().st_size
    assert found["/sub"]["size_bytes"] == (folder / "sub/b").stat().st_size
    assert (found["/a.h5"]["attributes"], found["/link"]["target"]) == (1, "a.h5")


@pytest.mark.semantics("C12")
def test_files_are_lines_with_their_trees_below_them(folder: Path) -> None:
    done = run_h5fs("tree", folder, "--attrs")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == str(folder)
    size = (folder / "a.h5").stat().st_size
    assert lines[1].startswith("├── a.h5       HDF5") and str(size // 1024) in lines[1]
    assert lines[2:7] == [
        '│     title = "x"',
        "│   ├── g     1 attribute",
        '│   │     unit = "m"',
        "│   │   └── data.npy  2 x 3  int64  contiguous   176 B",
        "│   └── soft  -> g/data.npy",
    ]
    (broken,) = (line for line in lines if "cut.h5" in line)
    assert "is cut short" in broken
    assert "├── link       -> a.h5" in lines and "├── notes.txt  5 B" in lines
    assert lines[-1] == "    └── empty"


@pytest.mark.semantics("C12")
def test_what_is_too_deep_is_not_opened(folder: Path) -> None:
    done = run_h5fs("tree", folder, "--depth", "1", "--sort", "size")
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split()[1] for line in done.stdout.splitlines()[1:]]
    assert names == ["a.h5", "cut.h5", "notes.txt", "link", "sub"]
    names = [
        entry["path"] for entry in every(json.loads(run_h5fs(
            "tree", folder / "sub", "--depth", "2", "--json"
        ).stdout))
    ]  # fmt: skip
    assert names == ["/b", "/b/g", "/b/soft", "/empty"]


@pytest.mark.semantics("C12")
def test_lines_come_before_the_next_file_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed: list[tuple[str, str]] = []

    def opened_tree(options: StoreOptions, *given: Any, **named: Any) -> Any:
        printed.append((options.file.name, capsys.readouterr().out))
        return without_mount.opened_tree(options, *given, **named)

    monkeypatch.setattr(folder_entries, "opened_tree", opened_tree)
    assert main.main(["tree", str(folder)]) == 1
    assert [name for name, _ in printed] == ["a.h5", "cut.h5", "b"]
    assert printed[0][1] == f"{folder}\n"
    assert "data.npy" in printed[1][1] and "cut short" in printed[2][1]


@pytest.mark.semantics("C12")
def test_a_folder_that_cannot_be_listed_is_a_line(folder: Path) -> None:
    extent = Extent(None, has_attrs=False)
    with folder_entries.listed_folder(str(folder), extent, None) as (found, look):
        (sub,) = (entry for entry in found if entry.name == "sub")
        (folder / "sub").rename(folder.with_name("elsewhere"))
        look(sub, 1)
    assert (sub.error, sub.entries) == ("No such file or directory", None)

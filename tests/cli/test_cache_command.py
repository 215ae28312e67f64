"""``h5fs cache``: what is kept of files that are far away, and its removal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from h5fs.cli import main
from h5fs.store.sources.cache_entry import EntryLabel
from h5fs.store.sources.disk_cache import DiskCache

MIB = 2**20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "h5fs"


def keep(folder: Path, name: str, *, is_open: bool = False) -> DiskCache:
    cache = DiskCache(folder, 10**9)
    entry = cache.open_entry(name, EntryLabel(f"https://host/{name}", 8 * MIB, '"v1"'))
    entry.put(bytes(MIB), 0)
    if not is_open:
        cache.close_entry(entry)
    return cache


@pytest.mark.semantics("Z22")
def test_the_list_tells_what_is_kept_of_which_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["cache"]) == 0
    assert capsys.readouterr().out == "the cache is empty\n"
    keep(folder, "run42.h5\x1b[31m").close()
    assert main.main(["cache", "list"]) == 0
    line, total = capsys.readouterr().out.splitlines()
    assert "1.0 M of 8.0 M" in line
    assert "https://host/run42.h5" in line
    assert "\x1b" not in line
    assert str(folder) in total
    assert main.main(["cache", "list", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["size_bytes"], entry["version"]) == (8 * MIB, '"v1"')
    assert Path(entry["file"]).stat().st_size == 8 * MIB


@pytest.mark.semantics("Z22")
def test_clear_removes_what_no_mount_uses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(folder, "a.h5").close()
    used = keep(folder, "b.h5", is_open=True)
    assert main.main(["cache", "clear"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "removed: 1 files, 1.0 M", "in use: 1 files, which stay until they are unmounted",
    ]  # fmt: skip
    used.close()


@pytest.mark.semantics("Z22")
def test_another_folder_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path / "other", "a.h5").close()
    assert main.main(["cache", "clear", "--folder", str(tmp_path / "other")]) == 0
    assert capsys.readouterr().out == "removed: 1 files, 1.0 M\n"


def test_a_folder_that_cannot_be_read_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert main.main(["cache", "--folder", str(tmp_path / "file")]) == 1
    assert "Not a directory" in capsys.readouterr().err

"""The kernel's mount table and the daemons' records, without a mount."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5fs import mount_table
from h5fs.mount_table import find_daemon, find_mount, registered

ESCAPED = {" ": "\\040", "\t": "\\011", "\n": "\\012", "\\": "\\134", "#": "\\043"}


def line_of(mountpoint: str, source: str = "/f.h5", kind: str = "fuse.h5fs") -> str:
    """Return a line as the kernel writes it: it escapes these few characters and no others."""
    texts = ["".join(ESCAPED.get(c, c) for c in text) for text in (mountpoint, source)]
    return f"36 35 0:31 / {texts[0]} ro,nosuid shared:1 - {kind} {texts[1]} ro,user_id=0\n"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "mountinfo"
    monkeypatch.setattr(mount_table, "_MOUNTINFO", file)
    return file


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "h5fs"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(mount_table, "_all_folders", lambda: [folder])
    return folder


def test_the_topmost_mount_counts(table: Path) -> None:
    table.write_text(
        line_of("/m", "tmpfs", "tmpfs") + line_of("/m/below") + line_of("/m", "/data.h5")
    )
    found = find_mount(Path("/m"))
    assert found is not None
    assert (found.type, found.device, found.source) == ("fuse.h5fs", "0:31", "/data.h5")
    assert found.is_h5fs
    assert find_mount(Path("/other")) is None


@pytest.mark.parametrize("name", ["a b", "a\nb", "a\tb", "a\\b", "\\040", "#a", "é", "a - b"])
def test_a_mountpoint_of_any_name_is_found(table: Path, name: str) -> None:
    table.write_text(line_of("/before") + line_of(f"/{name}", f"/{name}.h5") + line_of("/after"))
    found = find_mount(Path(f"/{name}"))
    assert found is not None
    assert found.source == f"/{name}.h5"


@pytest.mark.parametrize("character", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_characters_that_only_python_takes_for_a_line_end_do_no_harm(
    table: Path, character: str
) -> None:
    table.write_text(line_of(f"/a{character}b") + line_of("/m"), newline="")
    assert find_mount(Path("/m")) is not None
    assert find_mount(Path(f"/a{character}b")) is not None


@given(st.binary(min_size=1, max_size=20).filter(lambda b: not {0, 0x2F} & set(b)))
def test_a_daemon_is_found_while_it_is_registered(
    tmp_path_factory: pytest.TempPathFactory, name: bytes
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        runtime = tmp_path_factory.mktemp("runtime")
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        patch.setattr(mount_table, "_all_folders", lambda: [runtime / "h5fs"])
        mountpoint = Path("/mnt", os.fsdecode(name))
        with registered(mountpoint, Path("/f.h5")):
            assert find_daemon(mountpoint) == os.getpid()
            assert find_daemon(Path("/mnt/other one")) is None
        assert find_daemon(mountpoint) is None
        assert list((runtime / "h5fs").iterdir()) == []


def test_a_record_of_a_daemon_that_is_gone_is_removed(records: Path) -> None:
    records.mkdir(mode=0o700)
    gone = 2**22 + 1  # beyond what Linux gives
    (records / f"{gone}.json").write_text(json.dumps({"mountpoint": "/m", "file": "/f"}))
    assert find_daemon(Path("/m")) is None
    assert list(records.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "{}", '{"mountpoint": 5}'])
def test_a_record_that_is_not_whole_is_passed_over(records: Path, text: str) -> None:
    with registered(Path("/m"), Path("/f.h5")):
        (records / "1.json").write_text(text)
        (records / "x.json").write_text(text)
        assert find_daemon(Path("/m")) == os.getpid()


def test_a_record_of_another_shape_is_passed_over(records: Path) -> None:
    with registered(Path("/m"), Path("/f.h5")):
        (records / "1.json").write_text("[]")
        assert find_daemon(Path("/m")) == os.getpid()


def test_a_record_that_goes_away_meanwhile_is_passed_over(records: Path) -> None:
    with registered(Path("/m"), Path("/f.h5")):
        # As a daemon's that ends between the listing and the look at it.
        (records / "1.json").symlink_to("gone")
        assert find_daemon(Path("/m")) == os.getpid()


def test_a_folder_of_somebody_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to make a folder of somebody else")
    (tmp_path / "h5fs").mkdir()
    os.chown(tmp_path / "h5fs", 65534, 65534)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(PermissionError), registered(Path("/m"), Path("/f.h5")):
        pass

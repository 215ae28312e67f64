"""What daemons had to say at their end: told to the user whose mounts they were, once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from h5fs.daemon import runtime_folders
from h5fs.daemon.end_reports import take_reports

OTHER = 65534


def leave(folder: Path, uid: int) -> Path:
    folder.mkdir(mode=0o700)
    report = folder / "4711.ended"
    report.write_text(json.dumps({"mountpoint": f"/mnt-{uid}", "messages": ["x.npy is lost"]}))
    os.chown(folder, uid, -1)
    return report


@pytest.mark.semantics("M5")
@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_what_is_for_another_user_to_be_told_is_left_unless_root_names_the_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_folders, "_SHARED", tmp_path)
    monkeypatch.setattr(runtime_folders, "_USERS", tmp_path / "none")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    mine, theirs = leave(tmp_path / "h5fs-0", 0), leave(tmp_path / f"h5fs-{OTHER}", OTHER)
    assert [each.mountpoint for each in take_reports()] == ["/mnt-0"]
    assert not mine.exists() and theirs.exists()
    (told,) = take_reports(mountpoint=Path(f"/mnt-{OTHER}"))
    assert told.messages == ("x.npy is lost",) and not theirs.exists()
    assert take_reports() == []

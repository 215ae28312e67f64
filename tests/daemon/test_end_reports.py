"""What daemons had to say at their end: told to the user whose mounts they were."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from h5fs.daemon import runtime_folders
from h5fs.daemon.end_reports import leave_report, recent_reports, take_reports

OTHER = 65534
WEEK_SECONDS = 7 * 24 * 3600


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let reports be in a folder of this test alone."""
    monkeypatch.setattr(runtime_folders, "_SHARED", tmp_path)
    monkeypatch.setattr(runtime_folders, "_USERS", tmp_path / "none")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    return tmp_path


def leave(folder: Path, uid: int) -> Path:
    folder.mkdir(mode=0o700)
    report = folder / "4711.ended"
    report.write_text(json.dumps({"mountpoint": f"/mnt-{uid}", "messages": ["x.npy is lost"]}))
    os.chown(folder, uid, -1)
    return report


@pytest.mark.semantics("M5")
@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_what_is_for_another_user_to_be_told_is_left_unless_root_names_the_mount(
    folders: Path,
) -> None:
    mine, theirs = leave(folders / "h5fs-0", 0), leave(folders / f"h5fs-{OTHER}", OTHER)
    assert [each.mountpoint for each in recent_reports()] == ["/mnt-0"]
    assert mine.exists() and theirs.exists()
    (told,) = take_reports(Path(f"/mnt-{OTHER}"))
    assert told.messages == ("x.npy is lost",)
    assert mine.exists() and not theirs.exists()


@pytest.mark.semantics("M5")
def test_a_report_is_told_until_it_is_taken_or_a_week_old(folders: Path) -> None:
    report = leave(folders / f"h5fs-{os.getuid()}", os.getuid())
    place = Path(f"/mnt-{os.getuid()}")
    assert recent_reports() == recent_reports() != []
    assert take_reports(Path("/another")) == take_reports(place, pid=4712) == []
    assert recent_reports() == take_reports(place, pid=4711)
    assert recent_reports() == [] and not report.exists()
    leave_report(place, ["y.npy is lost"])
    (report,) = report.parent.glob("*.ended")
    old = report.stat().st_mtime - WEEK_SECONDS
    os.utime(report, (old + 60, old + 60))
    assert len(recent_reports()) == 1
    os.utime(report, (old - 1, old - 1))
    assert recent_reports() == [] and not report.exists()


@pytest.mark.semantics("M5")
def test_as_many_and_as_long_lines_as_there_may_be_come_back(folders: Path) -> None:
    messages = ["\N{GRINNING FACE}" * 2000] * 200
    leave_report(Path("/mnt"), messages)
    (told,) = recent_reports()
    assert told.messages == tuple(messages)
    assert sorted(each.suffix for each in folders.rglob("*.*")) == [".ended"]

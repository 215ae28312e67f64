"""``h5fs umount --all``, with a table of mounts of its own: the machine's mounts are others'."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytest

from h5fs.cli.commands import umount
from h5fs.daemon.mounting import Unmounted
from h5fs.errors import MountError
from h5fs.system.kernel_mounts import MountEntry

MOUNTS = [
    MountEntry(Path("/roots"), "0:40", "fuse.h5fs", "a.h5", 0),
    MountEntry(Path("/mine"), "0:41", "fuse.h5fs", "b.h5", 1000),
    MountEntry(Path("/sshfs"), "0:42", "fuse.sshfs", "host:", 1000),
    MountEntry(Path("/other"), "0:43", "fuse.h5fs", "c.h5", 1001),
    MountEntry(Path("/mine2"), "0:44", "fuse.h5fs", "d.h5", 1000),
    MountEntry(Path("/"), "8:1", "ext4", "/dev/sda1"),
]


@pytest.mark.semantics("M5")
@pytest.mark.parametrize(("uid", "ended"), [(1000, ["/mine", "/mine2"]), (0, ["/roots"]), (7, [])])
def test_all_ends_the_mounts_of_this_user_and_of_no_other_also_for_root(
    uid: int, ended: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def unmount(place: Path, *, is_lazy: bool) -> Unmounted:
        asked.append(f"{place}{' lazily' * is_lazy}")
        return Unmounted()

    monkeypatch.setattr(umount, "read_mounts", lambda: iter(MOUNTS))
    monkeypatch.setattr(umount, "unmount", unmount)
    monkeypatch.setattr(umount.os, "getuid", lambda: uid)
    assert umount.run(argparse.Namespace(all=True, mountpoint=None, lazy=False)) == 0
    assert asked == ended


@pytest.mark.semantics("M5")
def test_all_goes_on_behind_a_mount_that_cannot_be_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Path] = []

    def unmount(place: Path, *, is_lazy: bool) -> Unmounted:
        del is_lazy
        asked.append(place)
        if place == Path("/mine"):
            raise MountError("/mine is in use")
        return Unmounted()

    monkeypatch.setattr(umount, "read_mounts", lambda: iter(MOUNTS))
    monkeypatch.setattr(umount, "unmount", unmount)
    monkeypatch.setattr(umount.os, "getuid", lambda: 1000)
    assert umount.run(argparse.Namespace(all=True, mountpoint=None, lazy=True)) == 1
    assert asked == [Path("/mine"), Path("/mine2")]
    assert capsys.readouterr().err == "h5fs: /mine is in use\n"

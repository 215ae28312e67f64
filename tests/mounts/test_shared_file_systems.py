"""What a cluster's file systems do to a mount: caches of attributes, and locks that fail or lie."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import MountFailedError, mounted, needs_libfuse_3
from support.shared_file_system import seen_from_another_machine
from support.waiting import PATIENCE_SECONDS


def write(path: Path, value: int, count: int = 500_000) -> None:
    with h5py.File(path, "w") as opened:
        opened["d"] = np.full(count, value)


@needs_libfuse_3
@pytest.mark.semantics("M12")
def test_a_file_system_without_locks_is_said_and_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "x.h5", 3, 10)
    with seen_from_another_machine(folder, tmp_path / "nfs", lock_errno=errno.ENOLCK) as nfs:
        with pytest.raises(MountFailedError, match=r"has no locks.*-o locking=best-effort"):
            mounted(nfs / "x.h5").__enter__()
        with mounted(nfs / "x.h5", options=["-o", "locking=best-effort"]) as mount:
            assert np.load(mount.path / "d.npy").tolist() == [3] * 10
            assert any("no second h5fs" in line for line in mount.log_lines())


@needs_libfuse_3
@pytest.mark.semantics("F1", "F2", "F3")
def test_a_file_that_another_machine_replaces_is_the_old_or_the_new_one_whole(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "x.h5", 1)
    with (
        seen_from_another_machine(folder, tmp_path / "nfs", seconds=1) as nfs,
        mounted(nfs / "x.h5") as mount,
    ):
        assert np.unique(np.load(mount.path / "d.npy")).tolist() == [1]
        write(folder / "new.h5", 2)
        os.replace(folder / "new.h5", folder / "x.h5")
        deadline, seen = time.monotonic() + PATIENCE_SECONDS, {1}
        while seen != {2}:
            assert time.monotonic() < deadline
            try:
                seen = set(np.unique(np.load(mount.path / "d.npy")).tolist())
            except OSError as error:
                assert error.errno == errno.ESTALE
            assert seen in ({1}, {2})

"""What has become of a file that is open, by its path."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from h5fs.store.path_check import PathCheck


@pytest.mark.semantics("U9")
def test_each_thing_that_happens_to_a_file_has_its_line(tmp_path: Path) -> None:
    file, moved = tmp_path / "folder" / "f", tmp_path / "moved"
    file.parent.mkdir()
    file.write_bytes(b"x")
    descriptor = os.open(file, os.O_RDWR)
    place = PathCheck(descriptor, file)
    assert place.problem() == ""
    os.link(file, moved)
    assert "another name" in place.problem()
    moved.unlink()
    assert place.problem() == ""
    file.rename(moved)
    assert place.problem() == f"{file} was moved, and is {moved} now"
    shutil.rmtree(file.parent)
    file.parent.write_bytes(b"no folder")
    assert "was moved" in place.problem()
    file.parent.unlink()
    file.parent.mkdir()
    file.write_bytes(b"other")
    assert place.problem() == f"{file} was replaced by another file, and is {moved} now"
    assert not place.is_gone()
    moved.unlink()
    assert place.problem() == f"{file} was replaced by another file" and place.is_gone()
    file.unlink()
    assert place.problem() == f"{file} was removed"
    os.close(descriptor)


@pytest.mark.semantics("U9")
@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
def test_a_file_that_is_bound_elsewhere_and_removed_is_gone(tmp_path: Path) -> None:
    file, bound = tmp_path / "f", tmp_path / "bound"
    file.write_bytes(b"x")
    bound.touch()
    subprocess.run(["mount", "--bind", file, bound], check=True)
    try:
        descriptor = os.open(bound, os.O_RDWR)
        place = PathCheck(descriptor, bound)
        assert place.problem() == ""
        file.unlink()
        assert place.problem() == f"{bound} was removed" and place.is_gone()
        os.close(descriptor)
    finally:
        subprocess.run(["umount", bound], check=True)

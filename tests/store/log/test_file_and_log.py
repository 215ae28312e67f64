"""An HDF5 file and its log, opened and closed together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from h5fs.model.settings import Locking, Mode
from h5fs.store.log.file_and_log import open_logged


@pytest.mark.semantics("C11", "M6")
@pytest.mark.parametrize("mode", [Mode.APPEND, Mode.CREATE, Mode.EXCLUSIVE])
def test_a_file_that_was_made_and_has_nothing_goes_when_it_is_closed(
    tmp_path: Path, mode: Mode
) -> None:
    files = open_logged(tmp_path / "f.h5", mode, Locking.DEFAULT, b"boot")
    assert files is not None and files.path.exists()
    files.close(removes_log=True)
    assert os.listdir(tmp_path) == []


@pytest.mark.semantics("R1")
@pytest.mark.parametrize("mode", [Mode.APPEND, Mode.CREATE])
def test_an_empty_file_that_was_there_stays(tmp_path: Path, mode: Mode) -> None:
    (tmp_path / "f.h5").touch()
    files = open_logged(tmp_path / "f.h5", mode, Locking.DEFAULT, b"boot")
    assert files is not None
    files.close(removes_log=True)
    assert os.listdir(tmp_path) == ["f.h5"]


@pytest.mark.semantics("U3")
def test_a_new_file_all_of_which_is_in_its_log_stays(tmp_path: Path) -> None:
    files = open_logged(tmp_path / "f.h5", Mode.APPEND, Locking.DEFAULT, b"boot")
    assert files is not None
    os.write(files.log, b"what was committed")
    files.close(removes_log=False)
    assert sorted(os.listdir(tmp_path)) == ["f.h5", "f.h5.h5fs-log"]

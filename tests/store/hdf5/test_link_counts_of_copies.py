"""Copies into a group of HDF5 1.6 with more names than the library's cache has room for.

HDF5 2.0.0 counts one link too many then; so the space of a copy that is removed stays in use.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import run_h5fs


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.h5"
    with h5py.File(path, "w", libver="latest") as made:
        made["group/d"] = np.arange(10)
        made["cycle/d"] = np.arange(10)
        made["cycle/itself"] = made["cycle"]
        made["cycle/below/again"] = made["cycle"]
        made["d"] = np.arange(10)
        made["d2"] = made["d"]
        made["t"] = np.dtype("f8")
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target.h5"
    with h5py.File(path, "w", libver="earliest") as made:
        group = made.create_group("g")
        for number in range(10_000):
            group[f"{number:0230}"] = h5py.SoftLink("/g")
    return path


@pytest.mark.semantics("C11")
@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [("group", "", 1), ("cycle", "", 3), ("d", ".npy", 1), ("t", ".dtype.json", 1)],
)
def test_a_copy_has_as_many_links_as_lead_to_it(
    source: Path, target: Path, name: str, kind: str, count: int
) -> None:
    done = run_h5fs("cp", f"{source}:/{name}{kind}", f"{target}:/g/copy{kind}")
    assert (done.returncode, done.stderr) == (0, "")
    done = run_h5fs("cp", f"{target}:/g/copy{kind}", f"{target}:/g/copy2{kind}")
    assert (done.returncode, done.stderr) == (0, "")
    with h5py.File(target) as opened:
        for copy in ("copy", "copy2"):
            assert h5py.h5o.get_info(opened["g"][copy].id).rc == count

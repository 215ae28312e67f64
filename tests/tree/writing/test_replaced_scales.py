"""Dimension scales, and what they are attached to, that become other datasets: without a mount."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import read_handle, save, writable_tree


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        for name in ("t", "x"):
            opened[name] = np.arange(4.0)
            opened[name].make_scale(name)
        for name in ("v", "g/w"):
            opened[name] = np.zeros((4, 4))
            opened[name].dims[0].attach_scale(opened["t"])
            opened[name].dims[1].attach_scale(opened["x"])
        opened["v"].dims[1].attach_scale(opened["t"])
        opened["x2"] = opened["x"]
    return path


def check(file: Path) -> None:
    """Each knows of the others what it knew."""
    with h5py.File(file) as opened:
        t, x, v, w = (opened[name] for name in ("t", "x", "v", "g/w"))
        scales = [[list(dimension.values()) for dimension in each.dims] for each in (v, w)]
        assert scales == [[[t], [x, t]], [[t], [x]]]
        for scale, expected in ((t, [(v, 0), (w, 0), (v, 1)]), (x, [(v, 1), (w, 1)])):
            found = [(opened[ref], index) for ref, index in scale.attrs["REFERENCE_LIST"]]
            assert found == expected
        assert v.dims[0][0] == t


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("names", [["t"], ["v"], ["t", "v"], ["g/w", "t", "x2", "v", "t"]])
@pytest.mark.parametrize("is_read", [False, True])
def test_scales_and_what_they_are_attached_to_know_each_other_when_they_are_other_datasets(
    file: Path, names: list[str], is_read: bool
) -> None:
    with writable_tree(file) as tree:
        reader = tree.open(b"/t.npy", os.O_RDONLY, 1) if is_read else None
        for number, name in enumerate(names):
            shape = (5 + number, 4) if name in ("v", "g/w") else (5 + number,)
            save(tree, f"/{name}.npy".encode(), npy_bytes(np.ones(shape, "<i2")))
        if reader is not None:
            assert read_handle(tree, reader) == npy_bytes(np.arange(4.0))
            tree.release(reader)
    check(file)


@pytest.mark.semantics("R4")
def test_what_leads_nowhere_is_left_as_it_is(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        del opened["g/w"]
    with writable_tree(file) as tree:
        save(tree, b"/t.npy", npy_bytes(np.arange(7, dtype="<i2")))
        save(tree, b"/new.npy", npy_bytes(np.arange(7, dtype="<i2")))
    with h5py.File(file) as opened:
        assert opened["v"].dims[0][0] == opened["t"]
        assert opened["new"][()].tolist() == list(range(7))

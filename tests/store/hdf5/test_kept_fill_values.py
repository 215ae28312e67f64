"""Fill values of a dataset that another one replaces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from support.reference import npy_bytes
from support.trees import save, writable_tree

_COMPOUND = np.dtype([("a", "<i2"), ("b", "<f8", (2,)), ("c", "S3")])
KINDS: dict[str, tuple[Any, Any]] = {
    "integers": ("<i4", 7),
    "big-endian": (">f8", 7.5),
    "texts of fixed length": ("S7", b"ab"),
    "texts of fixed length in UTF-8": (h5py.string_dtype("utf-8", 7), "é"),
    "texts": (h5py.string_dtype(), "zz and é"),
    "texts in ASCII": (h5py.string_dtype("ascii"), b"zz"),
    "enumeration": (h5py.enum_dtype({"A": 3, "B": 4}, "<i2"), 4),
    "booleans": (bool, True),
    "complex": ("<c16", 1 + 2j),
    "compounds": (_COMPOUND, np.array((1, (2, 3), b"xyz"), _COMPOUND)),
    "half floats": ("<f2", 1.5),
}


def fill_of(dataset: h5py.Dataset) -> list[Any]:
    """What elements are that nobody has written."""
    dataset.resize(dataset.shape[0] + 2, 0)
    values: list[Any] = [repr(each) for each in dataset[-2:]]
    return values


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_dataset_has_the_fill_value_of_the_old_one(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "f.h5"
    dtype, fill_value = KINDS[kind]
    with h5py.File(file, "w") as opened:
        for name in ("d", "model"):
            opened.create_dataset(
                name, (3,), dtype, chunks=(2,), maxshape=(None,), fillvalue=fill_value,
                compression="gzip",
            )  # fmt: skip
        address, shown = h5py.h5o.get_info(opened["d"].id).addr, opened["d"][()]
    if shown.dtype.kind == "O":
        shown = np.array([each.decode() for each in shown])
    with writable_tree(file) as tree:
        reader = tree.open(b"/d.npy", os.O_RDONLY, 1)
        save(tree, b"/d.npy", npy_bytes(np.resize(shown, 5).astype(shown.dtype)))
        tree.release(reader)
    with h5py.File(file, "r+") as opened:
        assert h5py.h5o.get_info(opened["d"].id).addr != address
        assert opened["d"].shape == (5,)
        assert fill_of(opened["d"]) == fill_of(opened["model"])


@pytest.mark.semantics("R4")
def test_a_new_dataset_has_the_fill_value_of_one_that_is_stored_otherwise(tmp_path: Path) -> None:
    file, space = tmp_path / "f.h5", h5s.create_simple((4,))
    with h5py.File(file, "w") as opened:
        for name, layout in ((b"compact", h5d.COMPACT), (b"contiguous", h5d.CONTIGUOUS)):
            creation = h5p.create(h5p.DATASET_CREATE)
            creation.set_layout(layout)
            creation.set_fill_value(np.array(7, "<i4"))
            h5d.create(opened.id, name, h5t.STD_I32LE, space, creation)
        layout = h5py.VirtualLayout((4,), "<i4")
        layout[:2] = h5py.VirtualSource(opened["compact"])[:2]
        opened.create_virtual_dataset("virtual", layout, fillvalue=8)
    names = ("compact", "contiguous", "virtual")
    with writable_tree(file) as tree:
        for name in names:
            save(tree, f"/{name}.npy".encode(), npy_bytes(np.arange(9, dtype="<i4")))
    with h5py.File(file) as opened:
        for name in names:
            assert opened[name][()].tolist() == list(range(9))
            assert not opened[name].is_virtual
        assert [opened[name].fillvalue for name in names] == [7, 7, 8]

"""What decoding a batch of chunks asks of the HDF5 library."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.in_process import InProcessStore
from support.reference import npy_bytes

from h5fs.model.settings import StoreOptions
from h5fs.store.hdf5.reading import checked_chunks
from h5fs.tree import Tree


def test_chunks_that_are_decoded_here_are_not_looked_at_for_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    filters_of = checked_chunks.filters_of

    def counted(creation: Any) -> Any:
        asked.append(creation)
        return filters_of(creation)

    monkeypatch.setattr(checked_chunks, "filters_of", counted)
    data = np.arange(30_000, dtype="<i4").reshape(300, 100)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("d", data=data, chunks=(70, 30), compression="gzip", shuffle=True)
    store = InProcessStore(StoreOptions(tmp_path / "f.h5"))
    store.open()
    try:
        tree, content = Tree(store), npy_bytes(data)
        assert tree.read(tree.open(b"/d.npy", os.O_RDONLY), len(content), 0) == content
    finally:
        store.close()
    assert not asked

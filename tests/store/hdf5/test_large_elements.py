"""Elements that take many requests: what goes from a worker to the daemon is what is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.processes import bytes_read
from support.reference import npy_bytes
from support.stores import open_store

from h5fs.model.settings import Mode, StoreOptions
from h5fs.tree import Tree, WritableTree

ELEMENT_BYTES = 8 * 2**20
REQUEST_BYTES = 2**17


@pytest.mark.semantics("D1")
@pytest.mark.parametrize("mode", [Mode.READ, Mode.UPDATE])
@pytest.mark.parametrize("name", ["never written", "array", "text"])
def test_a_large_element_is_handed_over_once(tmp_path: Path, mode: Mode, name: str) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("never written", (1,), f"S{ELEMENT_BYTES}")
        array = np.dtype(("<i4", (ELEMENT_BYTES // 4,)))
        file.create_dataset("array", (1,), array, fillvalue=None, chunks=(1,))
        file["array"][0] = np.arange(ELEMENT_BYTES // 4)
        file["text"] = ["x" * (ELEMENT_BYTES // 4)]
        expected = {each: npy_bytes(file[each][...]) for each in ("never written", "array")}
    expected["text"] = npy_bytes(np.array(["x" * (ELEMENT_BYTES // 4)]))
    store = open_store(StoreOptions(tmp_path / "f.h5", mode=mode))
    tree = WritableTree(store, 100) if mode.writes else Tree(store)  # type: ignore[arg-type]
    try:
        handle = tree.open(f"/{name}.npy".encode(), os.O_RDONLY)
        before = bytes_read(os.getpid())
        found = bytearray()
        buffer = memoryview(bytearray(REQUEST_BYTES))
        while size := tree.read_into(handle, buffer, len(found)):
            found += buffer[:size]
        assert bytes_read(os.getpid()) - before < 3 * ELEMENT_BYTES  # from the file, and once more
        assert found == expected[name]
        tree.release(handle)
    finally:
        tree.close()
        store.close()

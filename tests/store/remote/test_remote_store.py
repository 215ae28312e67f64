"""The store of a file that is an object on another machine."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from store.remote.conftest import OpenUrl
from store.sources.object_server import ObjectServer

from h5fs.errors import CannotOpenError
from h5fs.model.settings import StoreOptions
from h5fs.store import open_store
from h5fs.tree import Tree


def make_file(path: Path, *, groups: int = 4, datasets: int = 50) -> None:
    """Write a file of many small datasets, a contiguous and a compressed one."""
    with h5py.File(path, "w") as file:
        for number in range(groups * datasets):
            group = file.require_group(f"group{number % groups}")
            group.create_dataset(f"d{number}", data=np.arange(10) + number).attrs["n"] = number
        file["contiguous"] = np.arange(500_000, dtype="<i4")
        file.create_dataset(
            "gzip", data=np.arange(500_000, dtype="<i4"), chunks=(4096,), compression="gzip"
        )
        file["texts"] = ["one", "two"]


def content_of(tree: Tree, path: bytes = b"/") -> dict[bytes, bytes]:
    """Return the content of all files below a folder."""
    found: dict[bytes, bytes] = {}
    pending = [path]
    while pending:
        folder = pending.pop()
        for dentry in tree.list_folder(folder):
            inside = folder.rstrip(b"/") + b"/" + dentry.name
            status = tree.get_status(inside)
            if status.mode & 0o040000:
                pending.append(inside)
                continue
            handle = tree.open(inside, os.O_RDONLY)
            buffer = bytearray(status.size_bytes)
            assert tree.read_into(handle, memoryview(buffer), 0) == len(buffer)
            found[inside] = bytes(buffer)
            tree.release(handle)
    return found


@pytest.mark.semantics("Z42")
def test_a_remote_file_has_the_bytes_that_a_local_one_has(
    server: ObjectServer, open_url: OpenUrl, tmp_path: Path
) -> None:
    make_file(server.folder / "f.h5")
    local = open_store(StoreOptions(server.folder / "f.h5", workers=1))
    try:
        expected = content_of(Tree(local))
    finally:
        local.close()
    assert len(expected) > 400
    assert content_of(Tree(open_url("f.h5", workers=2))) == expected


@pytest.mark.semantics("Z42")
def test_what_is_no_hdf5_file_is_refused(server: ObjectServer, open_url: OpenUrl) -> None:
    (server.folder / "text.h5").write_bytes(b"no HDF5\n" * 1000)
    with pytest.raises(CannotOpenError, match="signature"):
        open_url("text.h5")
    with pytest.raises(CannotOpenError, match="no such file"):
        open_url("missing.h5")

"""The store of a file that is an object on another machine."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from store.remote.conftest import OpenUrl
from support.object_server import ObjectServer
from support.stores import open_store

from h5fs.errors import CannotOpenError, UnreachableError
from h5fs.model.settings import StoreOptions
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


def read_array(tree: Tree, path: bytes) -> int:
    """Read a file as ``cp`` does; return its size."""
    handle = tree.open(path, os.O_RDONLY)
    buffer, at = memoryview(bytearray(2**17)), 0
    while count := tree.read_into(handle, buffer, at):
        at += count
    tree.release(handle)
    return at


@pytest.mark.semantics("Z43")
def test_many_objects_take_few_requests(server: ObjectServer, open_url: OpenUrl) -> None:
    make_file(server.folder / "many.h5", groups=6, datasets=100)
    server.reset()
    tree = Tree(open_url("many.h5"))
    for group in range(6):
        folder = b"/group%d" % group
        names = [dentry.name for dentry in tree.list_folder(folder)]
        assert len(names) == 200
        for name in names:
            tree.get_status(folder + b"/" + name)
    assert server.counts()["requests"] <= 50


@pytest.mark.semantics("Z43")
@pytest.mark.parametrize("layout", ["contiguous", "gzip"])
def test_a_sequential_reader_has_many_requests_in_flight(
    layout: str, server: ObjectServer, open_url: OpenUrl
) -> None:
    data = np.random.default_rng(0).integers(0, 2**31, 8 * 2**20, dtype="<i4")
    chunks = {"chunks": (2**16,), "compression": "gzip", "compression_opts": 1}
    with h5py.File(server.folder / f"{layout}.h5", "w") as file:
        file.create_dataset("x", data=data, **(chunks if layout == "gzip" else {}))
        stored = file["x"].id.get_storage_size()
    tree = Tree(open_url(f"{layout}.h5", workers=2))
    server.reset()
    server.set(latency=0.2)  # long enough for the next requests to come, on a busy machine too
    assert read_array(tree, b"/x.npy") > data.nbytes
    counts = server.counts()
    assert counts["most_in_flight"] >= 4
    assert counts["requests"] <= stored / 2**19
    assert counts["bytes"] <= 1.1 * stored


@pytest.mark.semantics("Z43")
def test_single_values_move_little(server: ObjectServer, open_url: OpenUrl) -> None:
    with h5py.File(server.folder / "wide.h5", "w") as file:
        file["x"] = np.arange(8 * 2**20, dtype="<i4")
    tree = Tree(open_url("wide.h5"))
    handle = tree.open(b"/x.npy", os.O_RDONLY)
    server.reset()
    for number in range(20):
        offset = 2**20 * (1 + number * 7 % 20) + 128
        buffer = bytearray(4096)
        assert tree.read_into(handle, memoryview(buffer), offset) == 4096
        first = (offset - 128) // 4
        assert buffer == np.arange(first, first + 1024, dtype="<i4").tobytes()
    counts = server.counts()
    assert counts["requests"] <= 20
    assert counts["bytes"] <= 20 * 2 * 2**16


@pytest.mark.semantics("Z44")
def test_what_cannot_be_fetched_is_an_error_and_is_there_later(
    server: ObjectServer, open_url: OpenUrl
) -> None:
    with h5py.File(server.folder / "down.h5", "w") as file:
        file["filler"] = np.zeros(2**19)  # what the first request brings
        for number in range(50):
            file.create_dataset(f"group/d{number}", data=np.arange(3) + number)
    store = open_url("down.h5", timeout_seconds=0.5)
    tree = Tree(store)
    for _ in range(3):
        server.set(fault="status:1000:503")
        with pytest.raises(UnreachableError):
            tree.list_folder(b"/group")
        server.set(fault="")
    for _ in range(100):  # for two seconds, what was just given up is not tried again
        with contextlib.suppress(UnreachableError):
            assert len(tree.list_folder(b"/group")) == 50
            break
        time.sleep(0.1)
    else:
        pytest.fail("the server is back, and the group cannot be listed")
    assert not store.statistics().quarantined

"""A store goes on with the very file that it has opened, whatever becomes of its path."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from support.stores import STARTER

from h5fs.errors import StaleError
from h5fs.model.settings import StoreOptions
from h5fs.store.worker_stores.worker_store import WorkerStore
from h5fs.tree import Tree

COUNT = 10


def write(file: Path, number: int) -> None:
    """Write a file, and those beside it that it refers to, all of whose data are ``number``."""
    values = np.full(COUNT, number, "<i8")
    with h5py.File(file.with_name("source.h5"), "w") as opened:
        opened["d"] = values
    file.with_name("raw.bin").write_bytes(values.tobytes())
    with h5py.File(file, "w") as opened:
        opened["contiguous"] = values
        opened.create_dataset("gzip", data=values, compression=1)
        opened.create_dataset("lzf", data=values, compression="lzf")
        opened.create_dataset("text", data=[str(number)] * COUNT, dtype=h5py.string_dtype())
        opened["g/linked"] = h5py.ExternalLink("source.h5", "/d")
        opened["g/own"] = h5py.ExternalLink(file.name, "/contiguous")
        layout = h5py.VirtualLayout((COUNT,), "<i8")
        layout[:] = h5py.VirtualSource("source.h5", "d", (COUNT,))
        opened.create_virtual_dataset("virtual", layout, fillvalue=-1)
        layout[:] = h5py.VirtualSource(opened["contiguous"])
        opened.create_virtual_dataset("virtual of itself", layout, fillvalue=-1)
        layout[:] = h5py.VirtualSource(file.name, "contiguous", (COUNT,))
        opened.create_virtual_dataset("virtual by name", layout, fillvalue=-1)
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_external(b"raw.bin", 0, values.nbytes)
        h5d.create(opened.id, b"raw", h5t.STD_I64LE, h5s.create_simple((COUNT,)), creation)


@contextmanager
def opened_tree(file: Path) -> Iterator[tuple[Tree, WorkerStore]]:
    store = WorkerStore(StoreOptions(file, workers=1), STARTER)
    store.open()
    tree = Tree(store)
    try:
        yield tree, store
    finally:
        tree.close()


def read(tree: Tree, name: str) -> list[str]:
    handle = tree.open(b"/" + name.encode() + b".npy", os.O_RDONLY)
    try:
        content = tree.read(handle, 2**16, 0)
    finally:
        tree.release(handle)
    dtype = "<U1" if name == "text" else "<i8"
    return [str(value) for value in np.frombuffer(content[128:], dtype)]


def end_workers(store: WorkerStore) -> None:
    for pid in store.statistics().workers.pids:
        handle = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        os.close(handle)


OWN = ["contiguous", "gzip", "lzf", "text", "virtual of itself", "g/own"]
BESIDE = ["virtual", "g/linked", "raw"]


@pytest.mark.semantics("F2")
@pytest.mark.parametrize("fate", ["replaced", "removed", "moved away"])
def test_a_worker_that_starts_late_reads_the_version_that_was_opened(
    tmp_path: Path, fate: str
) -> None:
    file = tmp_path / "f.h5"
    write(file, 1)
    with opened_tree(file) as (tree, store):
        if fate == "replaced":
            (tmp_path / "new").mkdir()
            write(tmp_path / "new/f.h5", 2)
            (tmp_path / "new/f.h5").rename(file)
        elif fate == "removed":
            file.unlink()
        else:
            file.rename(tmp_path / "other.h5")
        end_workers(store)
        for name in (*OWN, *BESIDE):
            assert read(tree, name) == ["1"] * COUNT, name


def test_an_old_version_that_refers_to_itself_by_name_is_stale_and_never_mixed(
    tmp_path: Path,
) -> None:
    file = tmp_path / "f.h5"
    write(file, 1)
    with opened_tree(file) as (tree, store):
        assert read(tree, "virtual by name") == ["1"] * COUNT
        (tmp_path / "new").mkdir()
        write(tmp_path / "new/f.h5", 2)
        (tmp_path / "new/f.h5").rename(file)
        end_workers(store)
        with pytest.raises(StaleError, match="has been replaced"):
            read(tree, "virtual by name")


def test_links_go_on_from_the_folder_in_which_the_file_was(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        write(tmp_path / str(number) / "f.h5", number)
    current = tmp_path / "current"
    current.symlink_to("1")
    with opened_tree(current / "f.h5") as (tree, store):
        current.unlink()
        current.symlink_to("2")
        end_workers(store)
        for name in (*OWN, *BESIDE):
            assert read(tree, name) == ["1"] * COUNT, name


def test_a_source_that_comes_is_not_taken_for_a_gap(tmp_path: Path) -> None:
    """A file that a worker may not open is for HDF5 one that is not there."""
    file = tmp_path / "f.h5"
    write(file, 1)
    source = tmp_path / "source.h5"
    source.rename(tmp_path / "away.h5")
    with opened_tree(file) as (tree, _):
        assert read(tree, "virtual") == ["-1"] * COUNT
        with h5py.File(source, "w") as opened:
            opened["d"] = np.full(COUNT, 3, "<i8")
        assert read(tree, "virtual") == ["3"] * COUNT


LARGE = 200_000  # elements: too many to come along with what is said of a dataset


def write_beside(path: Path, value: int, *, first: int) -> None:
    """Write arrays with ``first`` others before them, and so many after that none ends the file."""
    with h5py.File(path, "w") as file:
        for number in range(first):
            file[f"before {number}"] = np.full(LARGE, 100, "<i8")
        for name in ("a", "b"):
            file[name] = np.full(LARGE, value, "<i8")
        file.create_dataset(
            "c", data=np.full(LARGE, value, "<i8"), chunks=(10_000,), compression="gzip"
        )
        for number in range(8 - first):
            file[f"behind {number}"] = np.full(LARGE, 200, "<i8")


def read_beside(tree: Tree, name: str) -> set[int]:
    """Return the values of an array in the file that a link leads to; ``{-1}`` for ``ESTALE``."""
    handle = tree.open(f"/linked/{name}.npy".encode(), os.O_RDONLY)
    try:
        content = tree.read(handle, 8 * LARGE + 128, 0)
    except StaleError:
        return {-1}
    finally:
        tree.release(handle)
    return set(np.frombuffer(content[128:], "<i8").tolist())


@pytest.mark.semantics("L7")
@pytest.mark.parametrize("are_killed", [True, False])
@pytest.mark.parametrize("before", ["a", "c", "nothing"])
def test_a_replaced_file_behind_a_link_is_old_or_new_and_never_mixed(
    tmp_path: Path, before: str, are_killed: bool
) -> None:
    write_beside(tmp_path / "beside.h5", 1, first=0)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("beside.h5", "/")
    with opened_tree(tmp_path / "f.h5") as (tree, store):
        for name in ("a", "b", "c"):
            tree.get_status(f"/linked/{name}.npy".encode())
        if before != "nothing":
            assert read_beside(tree, before) == {1}
        write_beside(tmp_path / "new.h5", 2, first=8)
        (tmp_path / "new.h5").rename(tmp_path / "beside.h5")
        if are_killed:
            end_workers(store)
        for name in ("b", "c", "a"):
            found = read_beside(tree, name)
            assert found in ({1}, {2}, {-1}), name
            if found == {-1}:
                assert read_beside(tree, name) == {2}, name

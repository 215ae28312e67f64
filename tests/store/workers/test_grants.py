"""Which files beside the mounted one workers may read: those that links lead to, one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from support.stores import STARTER

from h5fs.errors import ForbiddenError, UnreadableError
from h5fs.model.objects import ObjectRef
from h5fs.model.settings import ExternalPolicy, StoreOptions
from h5fs.store.hdf5.reading.outside_data import OutsidePolicy
from h5fs.store.hdf5.store import Hdf5Store
from h5fs.store.interface import ArrayPart
from h5fs.store.worker_stores.worker_store import WorkerStore
from h5fs.store.workers.connection import WorkerConnection
from h5fs.store.workers.grants import Grants, OwnMounts, open_granted
from h5fs.store.workers.pool import WorkerPool
from h5fs.system import kernel_mounts
from h5fs.tree import Tree

FILES = 60


@contextmanager
def opened_tree(file: Path) -> Iterator[tuple[Tree, WorkerStore]]:
    store = WorkerStore(StoreOptions(file, workers=1), STARTER)
    store.open()
    tree = Tree(store)
    try:
        yield tree, store
    finally:
        tree.close()


def read(tree: Tree, path: bytes) -> bytes:
    handle = tree.open(path, os.O_RDONLY)
    try:
        return tree.read(handle, 2**16, 0)[128:]
    finally:
        tree.release(handle)


def granted(store: WorkerStore) -> list[str]:
    return sorted(os.path.basename(os.fsdecode(path)) for path in store._grants.all())


def write_sources(folder: Path, count: int = FILES) -> None:
    for number in range(count):
        with h5py.File(folder / f"part{number}.h5", "w") as opened:
            opened["d"] = np.full(1, number, "<i8")


@pytest.mark.semantics("W6")
def test_a_file_is_granted_when_a_link_leads_to_it_and_no_other_is(tmp_path: Path) -> None:
    write_sources(tmp_path)
    (tmp_path / "id_rsa").write_text("secret")
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["d"] = 1
        opened["links/one"] = h5py.ExternalLink("part3.h5", "/d")
    with opened_tree(tmp_path / "f.h5") as (tree, store):
        read(tree, b"/d.npy")
        assert granted(store) == []
        assert read(tree, b"/links/one.npy") == (3).to_bytes(8, "little")
        assert granted(store) == ["part3.h5"]


@pytest.mark.semantics("L5", "W6")
def test_a_listing_grants_what_its_links_lead_to_at_once(tmp_path: Path) -> None:
    write_sources(tmp_path)
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for number in range(FILES):
            opened[f"{number}"] = h5py.ExternalLink(f"part{number}.h5", "/d")
    with opened_tree(tmp_path / "f.h5") as (tree, store):
        seen = set()
        for dentry in tree.list_folder(b"/"):
            number = int(dentry.name.removesuffix(b".npy"))
            assert read(tree, b"/" + dentry.name) == number.to_bytes(8, "little")
            seen |= set(store.statistics().workers.pids)
        assert len(granted(store)) == FILES
        assert len(seen) <= 2  # and not a new one for each file


def write_virtual(file: Path, count: int) -> None:
    write_sources(file.parent, count)
    with h5py.File(file, "w") as opened:
        layout = h5py.VirtualLayout((count,), "<i8")
        for number in range(count):
            layout[number] = h5py.VirtualSource(f"part{number}.h5", "d", (1,))[0]
        opened.create_virtual_dataset("d", layout, fillvalue=-1)


@pytest.mark.semantics("L6", "W6")
def test_a_virtual_dataset_of_many_files_costs_one_worker_and_is_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 130
    write_virtual(tmp_path / "f.h5", count)
    started: list[WorkerPool] = []
    start = WorkerPool._start

    def counting(pool: WorkerPool) -> WorkerConnection:
        started.append(pool)
        return start(pool)

    monkeypatch.setattr(WorkerPool, "_start", counting)
    with opened_tree(tmp_path / "f.h5") as (tree, store):
        assert np.frombuffer(read(tree, b"/d.npy"), "<i8").tolist() == list(range(count))
        assert len(granted(store)) == count
        assert len(started) == 2  # at the opening, and with the grants


def test_sources_that_were_checked_are_not_opened_again_for_the_next_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_virtual(tmp_path / "f.h5", 130)
    checked: list[ObjectRef] = []
    check = OutsidePolicy.check

    def counting(policy: OutsidePolicy, ref: ObjectRef, *, is_logged: bool) -> object:
        checked.append(ref)
        return check(policy, ref, is_logged=is_logged)

    monkeypatch.setattr(OutsidePolicy, "check", counting)
    with closing(Hdf5Store(StoreOptions(tmp_path / "f.h5"))) as store:
        store.open()
        target = store.get_link(store.root().ref, b"d").target
        assert target is not None
        for number in range(3):
            data = store.read_data(target.ref, ArrayPart.ELEMENTS, 8 * number, 8)
            assert int.from_bytes(data, "little") == number
    assert len(checked) == 1


@pytest.mark.semantics("L6", "W6")
def test_all_sources_of_a_virtual_dataset_are_granted_at_once(tmp_path: Path) -> None:
    write_virtual(tmp_path / "f.h5", FILES)
    with opened_tree(tmp_path / "f.h5") as (tree, store):
        before = store.statistics().workers.pids
        assert np.frombuffer(read(tree, b"/d.npy"), "<i8").tolist() == list(range(FILES))
        assert len(granted(store)) == FILES
        assert store.statistics().workers.pids != before


@pytest.mark.semantics("L6")
@pytest.mark.parametrize("pattern", ["part%b.h5", "parts%b/d.h5", "%%b%b.h5"])
def test_sources_with_numbers_in_their_names_are_found(tmp_path: Path, pattern: str) -> None:
    count = 4
    for number in range(count):
        path = tmp_path / pattern.replace("%%", "\0").replace("%b", str(number)).replace("\0", "%")
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as opened:
            opened["d"] = np.full(5, number, "<i8")
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_fill_value(np.array(-1, "<i8"))
        extent = h5s.create_simple((5 * count,), (h5s.UNLIMITED,))
        space = h5s.create_simple((5 * count,), (h5s.UNLIMITED,))
        space.select_hyperslab((0,), (h5s.UNLIMITED,), (5,), (5,))
        creation.set_virtual(space, pattern.encode(), b"d", h5s.create_simple((5,)))
        h5d.create(opened.id, b"d", h5t.STD_I64LE, extent, creation)
        expected = opened["d"][...].tolist()
    assert expected == [number for number in range(count) for _ in range(5)]
    with opened_tree(tmp_path / "f.h5") as (tree, _):
        assert np.frombuffer(read(tree, b"/d.npy"), "<i8").tolist() == expected


def test_what_the_policy_forbids_is_not_granted(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    grants = Grants(ExternalPolicy.FOLDER, inside)
    for path in (tmp_path / "secret", inside / "../secret", Path("/etc/passwd")):
        with pytest.raises(ForbiddenError):
            grants.add([os.fsencode(path)])
    with pytest.raises(ForbiddenError, match="of the kernel"):
        Grants(ExternalPolicy.ALL, inside).add([b"/proc/%d/environ" % os.getpid()])
    with pytest.raises(ForbiddenError):
        Grants(ExternalPolicy.NONE, inside).add([os.fsencode(inside / "file")])
    assert grants.all() == ()
    grants.add([os.fsencode(inside / "file")])
    assert grants.all() == (os.fsencode(inside / "file"),)


def test_only_regular_files_are_opened_whose_paths_are_real(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to("../outside/secret")
    (inside / "door").symlink_to("../outside")
    (inside / "file").write_text("text")
    os.mkfifo(inside / "fifo")
    names = ("link", "door/secret", "door", "fifo", "missing", ".", "file")
    descriptors, known = open_granted(os.fsencode(inside / name) for name in names)
    status = (inside / "file").stat()
    assert known == {(status.st_dev, status.st_ino)}
    assert len(descriptors) == 1
    os.close(descriptors[0])


def test_a_file_that_cannot_be_read_is_an_error_of_its_link_alone(tmp_path: Path) -> None:
    write_sources(tmp_path)
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["good"] = h5py.ExternalLink("part1.h5", "/d")
        opened["raw"] = h5py.ExternalLink("text", "/d")
    (tmp_path / "text").write_text("no HDF5 file")
    with opened_tree(tmp_path / "f.h5") as (tree, store):
        names = {dentry.name for dentry in tree.list_folder(b"/")}
        assert names == {b"good.npy", b"raw"}  # a link that dangles
        assert read(tree, b"/good.npy") == (1).to_bytes(8, "little")
        link = store.get_link(store.root().ref, b"raw")
        with pytest.raises(UnreadableError, match="not an HDF5 file"):
            store.follow(store.root().ref, link)


@pytest.mark.semantics("L5", "W6")
def test_the_daemon_opens_no_file_behind_a_link_that_came_after_the_policy_was_asked(
    tmp_path: Path,
) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside / "sub", inside / "real", outside):
        folder.mkdir(parents=True)
        (folder / "x.h5").write_bytes(b"data")
    grants = Grants(ExternalPolicy.FOLDER, inside)
    path = inside / "sub/x.h5"
    os.close(grants.open(os.fsencode(path)))
    path.unlink()
    path.parent.rmdir()
    for target in (outside, inside / "real"):
        path.parent.symlink_to(target)
        with pytest.raises(ForbiddenError):
            grants.open(os.fsencode(path))
        path.parent.unlink()
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(ForbiddenError):
        grants.open(os.fsencode(path))


@pytest.mark.semantics("L5", "W6")
def test_a_file_that_a_worker_names_is_not_read_past_a_link_that_has_come_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, outside = tmp_path / "in", tmp_path / "out"
    for each in (folder / "sub", outside):
        each.mkdir(parents=True)
    (outside / "x.h5").write_bytes(b"secret" * 1000)
    with h5py.File(folder / "sub/x.h5", "w") as opened:
        opened["d"] = np.arange(100)
    with h5py.File(folder / "f.h5", "w") as opened:
        opened["link"] = h5py.ExternalLink("sub/x.h5", "/d")
    real_open = os.open

    def swap_and_open(path: Any, *how: Any, **more: Any) -> int:
        if os.fsencode(path).endswith(b"/sub/x.h5") and not (folder / "away").exists():
            (folder / "sub").rename(folder / "away")  # between check and use
            (folder / "sub").symlink_to(outside)
        return real_open(path, *how, **more)

    with opened_tree(folder / "f.h5") as (_, store):
        root = store.root().ref
        ref = store.follow(root, store.get_link(root, b"link")).ref
        monkeypatch.setattr(os, "open", swap_and_open)
        with pytest.raises(ForbiddenError):
            store.file_status(ref.file)


@pytest.mark.parametrize("name", ["plain", "a\rb"])
def test_nothing_below_a_mount_is_granted_whatever_the_mountpoint_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(f"36 35 0:31 / /{name} ro - fuse.h5fs /f.h5 ro,user_id=0\n".encode())
    monkeypatch.setattr(kernel_mounts, "_MOUNTINFO", table)
    monkeypatch.setattr("h5fs.store.workers.grants._MOUNTS", OwnMounts())
    grants = Grants(ExternalPolicy.ALL, tmp_path)
    with pytest.raises(ForbiddenError):
        grants.add([f"/{name}/x.h5".encode()])
    grants.add([f"/{name}2/x.h5".encode()])

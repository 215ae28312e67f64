"""Neither a daemon nor its workers import modules once a mount has begun."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

READ_EVERYTHING = """
import os, stat, sys
from contextlib import closing
from importlib import import_module
from pathlib import Path

from h5fs.daemon.late_modules import import_late_modules, late_modules_of_workers
from h5fs.model.settings import LogOptions, MountOptions, StoreOptions, View, ViewOptions

kind, path = sys.argv[1:]
options = MountOptions(
    Path("/mnt"), StoreOptions(Path(path), workers=1), LogOptions(), is_folder=kind == "folder",
    views=ViewOptions(frozenset(View)),
)
if kind == "worker":
    from h5fs.store.worker_process import starter_process, worker
    starter_process.import_late_modules()
    for name in late_modules_of_workers(options):
        import_module(name)
else:
    from h5fs.daemon import daemon_process
    import_late_modules(options)
from h5fs.cli.commands.without_mount import walk
from h5fs.daemon.open_tree import folder_tree
from h5fs.store import open_store
from h5fs.store.workers.starting.worker_starter import WorkerStarter
from h5fs.tree import Tree

known = set()

def look(begins):
    # In the process that is tested: the store of a worker runs in this one without workers.
    others = ("h5fs.tree",) if kind == "worker" else ()
    known.update(name for name in sys.modules if begins)
    return [name for name in sys.modules if name not in known and not name.startswith(others)]

def opened(starter):
    if kind == "folder":
        return folder_tree(options, starter)
    store = open_store(StoreOptions(Path(path), workers=0 if kind == "worker" else 1), starter)
    return Tree(store, views=options.views)

with closing(WorkerStarter()) as starter, closing(opened(starter)) as tree:
    look(True)
    seen = 0
    for place, status in walk(tree):
        for name in tree.list_xattrs(place):
            tree.get_xattr(place, name)
        if stat.S_ISREG(status.mode):
            handle = tree.open(place, os.O_RDONLY)
            while tree.read_into(handle, memoryview(bytearray(2**20)), seen % 7):
                seen += 1
                break
            tree.release(handle)
    print(seen, look(False))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("late") / "f.h5"
    with h5py.File(path, "w") as file:
        file.attrs["title"] = "late"
        for number in range(40):  # enough for a scan, and to look ahead
            file[f"small/{number}"] = np.arange(number)
            file[f"small/{number}"].attrs["units"] = "m"
        file["texts"] = [f"text {number}" for number in range(2000)]
        file["group/soft"] = h5py.SoftLink("/texts")
        file["type"] = np.dtype([("a", "i4"), ("b", "f8")])
        file["image"] = np.zeros((30, 40), "u1")
        file["ref"] = np.array([file["image"].ref], h5py.ref_dtype)
        kinds = h5py.enum_dtype({"no": 0, "yes": 1})
        file.create_dataset("enum", data=np.array([0, 1]), dtype=kinds)
        sequences = file.create_dataset("sequences", (3,), h5py.vlen_dtype("i4"))
        sequences[1] = [1, 2, 3]
        for name, how in (
            ("gzip", {"compression": "gzip", "shuffle": True}), ("blosc", hdf5plugin.Blosc()),
            ("bitshuffle", hdf5plugin.Bitshuffle()), ("lzf", {"compression": "lzf"}),
        ):  # fmt: skip
            file.create_dataset(name, data=np.arange(3000.0), chunks=(100,), **how)
        layout = h5py.VirtualLayout((3000,), "f8")
        layout[...] = h5py.VirtualSource(file["blosc"])
        file.create_virtual_dataset("virtual", layout)
    return path


@pytest.mark.semantics("M29")
@pytest.mark.parametrize("kind", ["daemon", "folder", "worker"])
def test_nothing_is_imported_once_a_mount_has_begun(kind: str, file: Path) -> None:
    path = file.parent if kind == "folder" else file
    done = subprocess.run(
        [sys.executable, "-c", READ_EVERYTHING, kind, str(path)], capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    count, _, late = done.stdout.strip().partition(" ")
    assert (late, done.stderr) == ("[]", "")
    assert int(count) > 100

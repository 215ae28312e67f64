#!/usr/bin/env python3
"""Compare what h5fs shows of HDF5 files at a web server with what it shows of them on this disk.

    scripts/corpus_remote.py [FILE ...] [--seconds 60]

Every file and folder of the tree is looked at and read, through the store in confined workers: the
same names, statuses (but for owner and times), link texts, bytes and errors must come out. Without
FILE all HDF5 files of ../shared/corpus. Prints a line for each file that differs; exit status 1
when one does.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "scripts")]

from corpus import find_files  # noqa: E402
from support.object_server import ObjectServer  # noqa: E402

from h5fs.errors import H5fsError  # noqa: E402
from h5fs.model.location import Location, Url  # noqa: E402
from h5fs.model.settings import ExternalPolicy, RemoteOptions, StoreOptions  # noqa: E402
from h5fs.store import open_store  # noqa: E402
from h5fs.store.workers.starting.worker_starter import WorkerStarter  # noqa: E402
from h5fs.tree import Tree  # noqa: E402

_MOST_BYTES = 2**24  # of each file of the tree


def main() -> int:
    """Compare the files; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--seconds", type=float, default=60, help="bound for each file (60)")
    given = parser.parse_args()
    files = given.files or list(find_files([ROOT.parent / "shared" / "corpus"]))
    starter = WorkerStarter()
    starter.start()
    different = objects = 0
    try:
        with tempfile.TemporaryDirectory() as folder, ObjectServer(Path(folder)) as server:
            remote = RemoteOptions(cache_folder=Path(folder, "cache"))
            for number, file in enumerate(files):
                link = Path(folder, f"{number}.h5")
                link.symlink_to(file.resolve())
                deadline = time.monotonic() + given.seconds
                here = dict(_look(file, remote, starter, deadline))
                there = dict(_look(Url(f"{server.url}/{link.name}"), remote, starter, deadline))
                objects += len(here)
                bad = sorted(p for p in here.keys() | there.keys() if here.get(p) != there.get(p))
                if bad and time.monotonic() < deadline:
                    different += 1
                    print(f"{file}: {bad[0]!r}: {here.get(bad[0])} here, {there.get(bad[0])} there")
    finally:
        starter.close()
    print(f"{len(files)} files, {objects} paths: {different} files differ")
    return 1 if different else 0


def _look(
    location: Location, remote: RemoteOptions, starter: WorkerStarter, deadline: float
) -> Iterator[tuple[bytes, object]]:
    """Yield every path of a tree with all that is shown there."""
    options = StoreOptions(location, external=ExternalPolicy.NONE, workers=1, remote=remote)
    try:
        store = open_store(options, starter)
    except H5fsError as error:
        yield b"", type(error).__name__
        return
    try:
        tree = Tree(store)
        pending = [b"/"]
        while pending and time.monotonic() < deadline:
            path = pending.pop()
            try:
                yield path, _describe(tree, path, pending)
            except H5fsError as error:
                yield path, (type(error).__name__, error.errno)
    finally:
        store.close()


def _describe(tree: Tree, path: bytes, pending: list[bytes]) -> object:
    status = tree.get_status(path)
    told = (status.mode & ~0o222, status.size_bytes, status.inode, status.hard_link_count)
    if stat.S_ISDIR(status.mode):
        names = sorted(dentry.name for dentry in tree.list_folder(path))
        pending += [path.rstrip(b"/") + b"/" + name for name in names]
        return stat.S_IFMT(status.mode), status.inode, names
    if stat.S_ISLNK(status.mode):
        return told, tree.read_link(path)
    if not status.mode & 0o444:
        return "unreadable"
    handle = tree.open(path, os.O_RDONLY)
    try:
        buffer = memoryview(bytearray(2**18))
        digest, at = hashlib.sha256(), 0
        while at < _MOST_BYTES and (count := tree.read_into(handle, buffer, at)):
            digest.update(buffer[:count])
            at += count
        return told[1:], digest.hexdigest()
    finally:
        tree.release(handle)


if __name__ == "__main__":
    sys.exit(main())

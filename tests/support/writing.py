"""Mounts that are written to, and a plain folder as the truth of what programs may expect."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from support.mounts import Mounted, mounted, run_h5fs

SECONDS = 240
REFUSED = ": what was written was refused: "


@contextmanager
def written(
    file: Path, *options: str, mode: str = "r+", leaves: bool | None = False
) -> Iterator[Mounted]:
    """Mount a file to write to it; at the end of the block ``h5fs umount`` must succeed.

    ``leaves``: as of ``unmount``.
    """
    with mounted(file, options=["--mode", mode, *options]) as mount:
        yield mount
        unmount(mount, leaves=leaves)


def unmount(mount: Mounted, *, leaves: bool | None = False) -> None:
    """Unmount as a user does, so that everything is committed.

    ``leaves``: something does not come into the HDF5 file, and ``h5fs umount`` must say so; None:
    perhaps. Without, it may tell of changes that were refused, and of nothing else.
    """
    done = run_h5fs("umount", mount.path)
    if leaves or (leaves is None and done.returncode):
        assert done.returncode == 1 and "saved as" in done.stderr, done
        return
    lines = done.stderr.splitlines()
    assert all(REFUSED in line for line in lines), done.stderr
    assert done.returncode == bool(lines), done


def tells_of_leftovers(said: str) -> bool:
    """Whether ``h5fs umount`` says that something has not come into the HDF5 file."""
    return "is not in the HDF5 file" in said or REFUSED in said


def make_file(file: Path, **datasets: Any) -> Path:
    """Make an HDF5 file with these datasets."""
    with h5py.File(file, "w") as opened:
        for name, values in datasets.items():
            opened[name] = values
    return file


def shell(script: str, folder: Path, *, status: int = 0) -> str:
    """Run a script of bash in a folder; return what it printed. It must say nothing on stderr."""
    done = run_shell(script, folder)
    assert done.returncode == status, (script, done.returncode, done.stderr)
    if status == 0:
        assert done.stderr == "", (script, done.stderr)
    return done.stdout


def run_shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script of bash in a folder."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip


def errno_of(action: Callable[[], Any]) -> int | None:
    """Return the errno that a call fails with, None when it does not."""
    try:
        action()
    except OSError as error:
        assert error.errno is not None, error
        return error.errno
    return None


def errno_of_writing(path: Path, data: bytes) -> tuple[str, int | None]:
    """Write a new content as a program does; return the call that failed and its errno.

    The call is ``""`` when none did.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as error:
        return "open", error.errno
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        with suppress(OSError):
            os.close(descriptor)
        return "write", error.errno
    try:
        os.close(descriptor)
    except OSError as error:
        return "close", error.errno
    return "", None


@dataclass(frozen=True)
class Tree:
    """What a folder shows: the kind of each path, the bytes of files, the text of links."""

    folders: frozenset[str]
    files: dict[str, bytes]
    links: dict[str, str]


def read_tree(folder: Path) -> Tree:
    """Read all of a folder; attributes of any kind are left out."""
    folders, files, links = set(), {}, {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            links[name] = os.readlink(path)
        elif path.is_dir():
            folders.add(name)
        else:
            files[name] = path.read_bytes()
    return Tree(frozenset(folders), files, links)


def same(ours: Any, expected: Any) -> bool:
    """Whether two arrays have one dtype, one shape and the same bits."""
    ours, expected = np.asarray(ours), np.asarray(expected)
    return (
        ours.dtype == expected.dtype
        and ours.shape == expected.shape
        and ours.tobytes() == expected.tobytes()
    )


def check_file_opens(file: Path) -> None:
    """The tools of the HDF5 library can read all of a file."""
    done = subprocess.run(
        ["h5dump", str(file)], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@dataclass(frozen=True)
class Pair:
    """A mount, and a plain folder that has the same arrays at first.

    ``checked``: the folders in both in which a script did the same.
    """

    file: Path
    mount: Mounted
    plain: Path
    checked: set[str] = field(default_factory=set)

    def run_in_both(self, script: str, folder: str) -> None:
        """Run a script of bash in the same folder of both.

        What it prints, its exit status and what is there afterwards must be the same.
        """
        here, there = self.mount.path / folder, self.plain / folder
        known = len(self.mount.log_lines())
        ours, expected = run_shell(script, here), run_shell(script, there)
        log = self.mount.log_lines()[known:]
        said = [ours.stdout, ours.stderr.replace(str(here), str(there)), ours.returncode]
        assert said == [expected.stdout, expected.stderr, expected.returncode], (said, log)
        tree, truth = read_tree(here), read_tree(there)
        assert tree.folders == truth.folders, log
        assert tree.links == truth.links, log
        assert sorted(tree.files) == sorted(truth.files), log
        wrong = [name for name, content in truth.files.items() if tree.files[name] != content]
        assert not wrong, (wrong, log)
        assert [line for line in log if "unexpected" in line] == []
        self.checked.add(folder)


@contextmanager
def mounted_pair(
    folder: Path, names: Iterable[str], before: dict[str, np.ndarray]
) -> Iterator[Pair]:
    """Mount a file in which each of the groups has the same arrays, as a plain folder has."""
    plain, file = folder / "plain", folder / "f.h5"
    with h5py.File(file, "w") as opened:
        for name, (array, values) in itertools.product(names, before.items()):
            opened[f"{name}/{array}"] = values
            path = plain / name / f"{array}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values)
    with mounted(file, options=["--mode", "r+"]) as mount:
        yield Pair(file, mount, plain)


def check_holds(group: h5py.Group, plain: Path) -> None:
    """A group has the arrays, groups and hard links of a folder."""
    tree = read_tree(plain)
    names = {name.removesuffix(".npy") for name in tree.files}
    found: set[str] = set()

    def visit(name: str, link: Any) -> None:
        if isinstance(link, h5py.HardLink):
            found.add(name)

    group.visititems_links(visit)
    assert found == names | tree.folders, found ^ (names | tree.folders)
    objects: dict[int, int] = {}
    for name in sorted(names):
        path = plain / f"{name}.npy"
        assert same(group[name][()], np.load(path)), name
        address = h5py.h5o.get_info(group[name].id).addr
        assert objects.setdefault(path.stat().st_ino, address) == address, name
    assert len(set(objects.values())) == len(objects)

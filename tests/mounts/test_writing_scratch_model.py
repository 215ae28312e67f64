"""Random file calls in a scratch folder, and on drafts and links, beside a plain folder: the same.

An operation is a tuple of plain values; each is done in both folders, and must answer the same.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.mounts import Mounted, mounted
from support.writing import make_file

NAMES = st.sampled_from(["a", "b", "x.npy", "x.attrs.json", "results.csv", ".h"])
PATHS = st.one_of(NAMES, NAMES, st.builds("{}/{}".format, NAMES, NAMES))
TEXTS = st.sampled_from(
    ["a", "b", "x.npy", "a/../b", "a/b", "nowhere", "/proc/nowhere", "./b", "results.csv"]
)
SIZES = st.sampled_from([0, 1, 100, 5000, 40_000])
SLOTS = st.integers(0, 2)
DATA = st.integers(1, 255)
FLAGS = st.sampled_from(
    [os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT,
     os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_WRONLY | os.O_CREAT | os.O_APPEND,
     os.O_RDONLY | os.O_NOFOLLOW]
)  # fmt: skip

OPERATIONS = st.one_of(
    st.tuples(st.just("write"), PATHS, SIZES, DATA),
    st.tuples(st.just("mkdir"), PATHS),
    st.tuples(st.just("rmdir"), PATHS),
    st.tuples(st.just("unlink"), PATHS),
    st.tuples(st.just("rename"), PATHS, PATHS),
    st.tuples(st.just("rename"), PATHS, PATHS),
    st.tuples(st.just("symlink"), TEXTS, PATHS),
    st.tuples(st.just("readlink"), PATHS),
    st.tuples(st.just("truncate"), PATHS, SIZES),
    st.tuples(st.just("utime"), PATHS, st.integers(10**18, 2 * 10**18)),
    st.tuples(st.just("status"), PATHS),
    st.tuples(st.just("open"), SLOTS, PATHS, FLAGS),
    st.tuples(st.just("pwrite"), SLOTS, SIZES, SIZES, DATA),
    st.tuples(st.just("pread"), SLOTS, SIZES),
    st.tuples(st.just("ftruncate"), SLOTS, SIZES),
    st.tuples(st.just("end"), SLOTS),
    st.tuples(st.just("close"), SLOTS),
)


class Place:
    """One of the two folders, and what is open in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.descriptors: dict[int, int] = {}

    def run(self, name: str, *arguments: Any) -> Any:
        """Return what a call answers: a value, or the errno."""
        act: Callable[..., Any] = getattr(self, f"_{name}")
        try:
            return act(*arguments)
        except OSError as error:
            return f"errno {error.errno}"

    def close_all(self) -> None:
        for slot in list(self.descriptors):
            self._close(slot)

    def tree(self) -> dict[str, Any]:
        """Return all that is there."""
        found: dict[str, Any] = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = os.readlink(path)
            else:
                found[name] = None if path.is_dir() else path.read_bytes()
        return found

    def _write(self, path: str, size: int, byte: int) -> None:
        (self.root / path).write_bytes(bytes([byte]) * size)

    def _mkdir(self, path: str) -> None:
        (self.root / path).mkdir()

    def _rmdir(self, path: str) -> None:
        (self.root / path).rmdir()

    def _unlink(self, path: str) -> None:
        (self.root / path).unlink()

    def _rename(self, old: str, new: str) -> None:
        (self.root / old).rename(self.root / new)

    def _symlink(self, text: str, path: str) -> None:
        os.symlink(text, self.root / path)

    def _readlink(self, path: str) -> str:
        return os.readlink(self.root / path)

    def _truncate(self, path: str, size: int) -> None:
        os.truncate(self.root / path, size)

    def _utime(self, path: str, mtime_ns: int) -> int:
        os.utime(self.root / path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
        return os.lstat(self.root / path).st_mtime_ns

    def _status(self, path: str) -> tuple[int, int | None]:
        status = os.lstat(self.root / path)
        is_folder = stat.S_ISDIR(status.st_mode)
        return stat.S_IFMT(status.st_mode), None if is_folder else status.st_size

    def _open(self, slot: int, path: str, flags: int) -> None:
        self.descriptors[slot] = os.open(self.root / path, flags, 0o644)

    def _pwrite(self, slot: int, offset: int, size: int, byte: int) -> int | None:
        return os.pwrite(self.descriptors[slot], bytes([byte]) * size, offset) if size else None

    def _pread(self, slot: int, offset: int) -> bytes:
        return os.pread(self.descriptors[slot], 100_000, offset)

    def _ftruncate(self, slot: int, size: int) -> None:
        os.ftruncate(self.descriptors[slot], size)

    def _end(self, slot: int) -> int:
        return os.lseek(self.descriptors[slot], 0, os.SEEK_END)

    def _close(self, slot: int) -> None:
        os.close(self.descriptors.pop(slot))


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    file = make_file(tmp_path_factory.mktemp("scratch") / "f.h5")
    with mounted(file, options=["--mode", "r+"]) as mount:
        yield mount


def compare(here: Place, there: Place, operations: list[tuple[Any, ...]]) -> None:
    done = []
    try:
        for operation in operations:
            name, *arguments = operation
            if name == "open" and arguments[0] in there.descriptors:
                continue
            if name in ("pwrite", "pread", "ftruncate", "end", "close") and (
                arguments[0] not in there.descriptors
            ):
                continue
            done.append(operation)
            ours, expected = here.run(name, *arguments), there.run(name, *arguments)
            assert ours == expected, (done, ours, expected)
        assert here.tree() == there.tree(), done
    finally:
        here.close_all()
        there.close_all()
    assert here.tree() == there.tree(), done


@pytest.mark.semantics("R17")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=st.lists(OPERATIONS, min_size=5, max_size=40))
def test_a_scratch_folder_is_a_folder_like_any_other(
    mount: Mounted, operations: list[tuple[Any, ...]]
) -> None:
    with tempfile.TemporaryDirectory() as plain:
        folder = mount.path / ".scratch"
        folder.mkdir()
        try:
            compare(Place(folder), Place(Path(plain)), operations)
        finally:
            shutil.rmtree(folder)
    assert [line for line in mount.log_lines() if "unexpected" in line] == []


# In a group: arrays and links to them, folders and links to them; what is refused there by design
# (another kind of name, other files) is not among the operations.
FOLDERS = st.sampled_from(["a", "b", "a/c"])
ARRAYS = st.builds(
    "{}{}".format, st.sampled_from(["", "", "a/"]), st.sampled_from(["x.npy", "y.npy"])
)
LINKS = st.one_of(st.sampled_from(["l", "m"]), st.sampled_from(["x.npy", "y.npy", "z.npy"]))
LINK_TEXTS = st.sampled_from(["x.npy", "y.npy", "z.npy", "a/x.npy", "a", "l", "none.npy", "a/none"])
TEMPORARY = st.sampled_from([".t", "x.npy.tmp", "u~"])
GROUP_OPERATIONS = st.one_of(
    st.tuples(st.just("save"), st.one_of(ARRAYS, TEMPORARY), DATA),
    st.tuples(st.just("save"), ARRAYS, DATA),
    st.tuples(st.just("symlink"), LINK_TEXTS, LINKS),
    st.tuples(st.just("symlink"), LINK_TEXTS, LINKS),
    st.tuples(st.just("unlink"), st.one_of(ARRAYS, LINKS, TEMPORARY)),
    st.tuples(st.just("mkdir"), FOLDERS),
    st.tuples(st.just("rmdir"), FOLDERS),
    st.tuples(st.just("rename_alike"), st.one_of(ARRAYS, LINKS, TEMPORARY),
              st.one_of(ARRAYS, LINKS, TEMPORARY)),
    st.tuples(st.just("rename_alike"), LINKS, LINKS),
    st.tuples(st.just("rename_alike"), FOLDERS, FOLDERS),
    st.tuples(st.just("readlink"), LINKS),
    st.tuples(st.just("status"), st.one_of(ARRAYS, LINKS, FOLDERS)),
    st.tuples(st.just("open"), SLOTS, ARRAYS, st.just(os.O_RDONLY)),
    st.tuples(st.just("pread"), SLOTS, SIZES),
    st.tuples(st.just("end"), SLOTS),
    st.tuples(st.just("close"), SLOTS),
)  # fmt: skip


class GroupPlace(Place):
    """A folder of arrays and links.

    A link of no file's ending has the ending of its target in its text for as long as it leads to
    it, by [L1]: texts are compared without.
    """

    def tree(self) -> dict[str, Any]:
        return {
            name: text.removesuffix(".npy") if isinstance(text, str) else text
            for name, text in super().tree().items()
        }

    def _save(self, path: str, byte: int) -> None:
        if (self.root / path).is_symlink() and not (self.root / path).exists():
            return  # what it leads to may be no name of a file
        with open(self.root / path, "wb") as file:
            np.save(file, np.full(byte, byte, "<i2"))

    def _readlink(self, path: str) -> str:
        return os.readlink(self.root / path).removesuffix(".npy")

    def _status(self, path: str) -> tuple[int, int | None]:
        kind, size = super()._status(path)
        return kind, None if kind == stat.S_IFLNK else size

    def _rename_alike(self, old: str, new: str) -> None:
        # An array is x.npy, a folder a, a link either: another name is EINVAL by [R14] and [R17].
        path, to = self.root / old, self.root / new
        if not path.is_symlink() and (path.suffix == ".npy") != (to.suffix == ".npy"):
            return
        if path.is_file() and not path.is_symlink() and to.is_symlink() and to.suffix != ".npy":
            return
        path.rename(to)


@pytest.mark.semantics("R14", "R15")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=st.lists(GROUP_OPERATIONS, min_size=5, max_size=40))
def test_links_and_arrays_are_made_replaced_and_moved_as_in_any_folder(
    mount: Mounted, operations: list[tuple[Any, ...]]
) -> None:
    with tempfile.TemporaryDirectory() as plain:
        folder = mount.path / "group"
        folder.mkdir()
        try:
            compare(GroupPlace(folder), GroupPlace(Path(plain)), operations)
        finally:
            shutil.rmtree(folder)
    assert [line for line in mount.log_lines() if "unexpected" in line] == []

"""The write modes' operations through the kernel: as on a real folder.

The tree is one in memory, served by a process of its own (this file, run as a program). It notes
each call, so that the tests see what arrives; a file whose name begins ``flush!NoSpaceError``
raises that error in that call.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import mmap
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.mount_points import table_of_mounts
from support.waiting import PATIENCE_SECONDS

from h5fs import errors
from h5fs.errors import BadHandleError, ExistsError, NotAGroupError, NotEmptyError, NotFoundError
from h5fs.model.file_status import SpaceStatus
from h5fs.model.settings import LogOptions, MountOptions, StoreOptions
from h5fs.model.settings import Mode as MountMode
from h5fs.store.sources.local_file import space_at
from h5fs.tree.dentries import Dentries
from h5fs.tree.status import Dentry, Status

MIB = 2**20
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
UTIME_NOW, UTIME_OMIT = 2**30 - 1, 2**30 - 2


# --- the tree, and the daemon


@dataclass
class Inode:
    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    children: dict[bytes, Inode] = field(default_factory=dict)
    names: int = 1
    owner: tuple[int, int] = (os.getuid(), os.getgid())
    times: list[int] = field(default_factory=lambda: [time.time_ns()] * 3)
    failure: tuple[str, str] = ("", "")  # the call, the error

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


class UnheardOfError(Exception):
    """No error of h5fs's own."""


class BrokenError(errors.H5fsError):
    """An error with an errno that would be success."""

    errno = 0


FAILURES: dict[str, BaseException] = {
    error.__name__: error("as asked")
    for error in (
        *vars(errors).values(),
        UnheardOfError,
        BrokenError,
        KeyboardInterrupt,
        SystemExit,
    )
    if isinstance(error, type) and issubclass(error, BaseException)
} | {"OSError": OSError("no errno, as from h5py"), "NoSpace": OSError(errno.ENOSPC, "full")}


class MemoryTree:
    """A file system in memory; each public method under one lock, and noted."""

    def __init__(self, notes: int) -> None:
        self._notes = notes
        self._lock = threading.RLock()
        self._root = Inode(1, stat.S_IFDIR | 0o755)
        self._last_number = 1
        self._handles: dict[int, Inode] = {}
        self._last_handle = 2**40
        self._kept: list[memoryview] = []

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("_") or name in ("count_waiting", "call_when_waiting"):
            return value

        @functools.wraps(value)
        def call(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                self._note(name, arguments)
                self._fail(name, arguments)
                return value(*arguments, **named)

        return call

    def _note(self, name: str, arguments: tuple[Any, ...]) -> None:
        shown = [
            os.fsdecode(a) if isinstance(a, bytes) else len(a) if isinstance(a, memoryview) else a
            for a in arguments
        ]
        os.write(self._notes, json.dumps([name, *shown]).encode() + b"\n")

    def _fail(self, call: str, arguments: tuple[Any, ...]) -> None:
        if arguments and isinstance(arguments[0], int):
            wanted = self._handles[arguments[0]].failure
        else:
            # Of what is made or renamed the name that it shall have, the last path.
            paths = [a for a in arguments if isinstance(a, bytes)]
            wanted = _failure_of(paths[-1]) if paths else ("", "")
        if wanted[0] == call:
            raise FAILURES[wanted[1]]

    def _find(self, path: bytes) -> Inode:
        inode = self._root
        for name in path.split(b"/")[1:]:
            if not inode.is_folder:
                raise NotAGroupError
            if name:
                if name not in inode.children:
                    raise NotFoundError
                inode = inode.children[name]
        return inode

    def _place(self, path: bytes) -> tuple[dict[bytes, Inode], bytes]:
        folder, _, name = path.rpartition(b"/")
        return self._find(folder).children, name

    def _add(self, path: bytes, mode: int, data: bytes = b"") -> Inode:
        children, name = self._place(path)
        if name in children:
            raise ExistsError
        self._last_number += 1
        inode = Inode(self._last_number, mode, bytearray(data), failure=_failure_of(path))
        children[name] = inode
        return inode

    def _open(self, inode: Inode) -> int:
        self._last_handle += 1
        self._handles[self._last_handle] = inode
        return self._last_handle

    def _file(self, path: bytes | None, handle: int | None = None) -> Inode:
        if handle is not None:
            if handle not in self._handles:
                raise BadHandleError
            return self._handles[handle]
        assert path is not None
        return self._find(path)

    def get_status(self, path: bytes) -> Status:
        return self._status(self._find(path))

    def get_lasting_status(self, path: bytes) -> tuple[Status, bool]:
        inode = self._find(path)
        return self._status(inode), inode.names == 1

    def get_lasting_status_of_handle(self, handle: int, *, has_name: bool) -> tuple[Status, bool]:
        return self._status(self._file(None, handle)), False

    def _status(self, inode: Inode) -> Status:
        folders = sum(child.is_folder for child in inode.children.values())
        return Status(
            inode.number, inode.mode, inode.names + (inode.is_folder and 1 + folders),
            *inode.owner, len(inode.data), len(inode.data) // 512, *inode.times,
        )  # fmt: skip

    def list_folder(self, path: bytes) -> Dentries:
        children = self._find(path).children.items()
        return Dentries.of(Dentry(name, inode.number, inode.mode) for name, inode in children)

    def version(self) -> object:
        return "always this one"

    def read_link(self, path: bytes) -> bytes:
        return bytes(self._find(path).data)

    def open(self, path: bytes, flags: int, pid: int = 0) -> int:
        inode = self._find(path)
        if flags & os.O_TRUNC:
            inode.data.clear()
        return self._open(inode)

    def create(self, path: bytes, flags: int, pid: int = 0, mode: int = 0o666) -> int:
        return self._open(self._add(path, stat.S_IFREG | 0o644))

    def changed_since(self, _version: object) -> None:
        return None

    def only_reads(self, handle: int) -> bool:
        return self._handles[handle].failure[0] == "reads"

    def page_content(self, handle: int) -> None:
        return None

    def bypasses_cache(self, handle: int) -> bool:
        return self._handles[handle].failure[0] == "direct"

    def write(
        self, handle: int, data: memoryview, offset: int, *, is_page: bool = False,
        is_mixed: bool = False,
    ) -> None:  # fmt: skip
        inode = self._file(None, handle)
        if inode.failure[0] == "keep":
            self._kept.append(data)
        self._resize(inode, max(len(inode.data), offset + len(data)))
        inode.data[offset : offset + len(data)] = data

    def read_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        data = self._file(None, handle).data[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def flush(self, handle: int, pid: int) -> None:
        for view in self._kept:
            try:
                bytes(view)
            except ValueError:
                continue  # released
            raise UnheardOfError

    def fsync(self, handle: int) -> None:
        pass

    def sync_folder(self, path: bytes) -> None:
        self._find(path)

    def release(self, handle: int) -> None:
        del self._handles[handle]

    def truncate(self, path: bytes | None, size: int, handle: int | None) -> None:
        self._resize(self._file(path, handle), size)

    def _resize(self, inode: Inode, size: int) -> None:
        del inode.data[size:]
        inode.data.extend(bytes(size - len(inode.data)))
        inode.times[1] = inode.times[2] = time.time_ns()

    def make_folder(self, path: bytes) -> None:
        self._add(path, stat.S_IFDIR | 0o755)

    def make_symbolic_link(self, text: bytes, path: bytes) -> None:
        self._add(path, stat.S_IFLNK | 0o777, text)

    def make_hard_link(self, existing: bytes, new: bytes) -> None:
        children, name = self._place(new)
        if name in children:
            raise ExistsError
        children[name] = self._find(existing)
        children[name].names += 1

    def remove_folder(self, path: bytes) -> None:
        if self._find(path).children:
            raise NotEmptyError
        self.unlink(path)

    def unlink(self, path: bytes, pid: int = 0) -> None:
        children, name = self._place(path)
        self._find(path).names -= 1
        del children[name]

    def rename(self, old: bytes, new: bytes, flags: int, pid: int = 0) -> None:
        (before, old_name), (after, new_name) = self._place(old), self._place(new)
        replaced = after.get(new_name)
        if flags & RENAME_NOREPLACE and replaced is not None:
            raise ExistsError
        if flags & RENAME_EXCHANGE:
            before[old_name], after[new_name] = after[new_name], before[old_name]
            return
        if replaced is not None and replaced.children:
            raise NotEmptyError
        moved = before.pop(old_name)
        if replaced is not None:
            replaced.names -= 1
        after[new_name] = moved
        moved.failure = _failure_of(new)

    def set_mode(self, path: bytes | None, mode: int) -> None:
        inode = self._file(path)
        inode.mode = stat.S_IFMT(inode.mode) | mode

    def set_owner(self, path: bytes | None, uid: int, gid: int) -> None:
        inode = self._file(path)
        inode.owner = (inode.owner[0] if uid == -1 else uid, inode.owner[1] if gid == -1 else gid)

    def count_waiting(self) -> int:
        return 0

    def call_when_waiting(self, function: Callable[[], None]) -> None: ...

    def set_times(
        self, path: bytes | None, atime_ns: int | None, mtime_ns: int | None,
        handle: int | None = None,
    ) -> None:  # fmt: skip
        times = self._file(path, handle).times
        for index, value in enumerate((atime_ns, mtime_ns)):
            if value is not None:
                times[index] = value

    def get_file_system_status(self) -> SpaceStatus:
        return space_at(b"/")

    def list_xattrs(self, path: bytes) -> list[bytes]:
        return []


def _failure_of(path: bytes) -> tuple[str, str]:
    call, bang, error = os.fsdecode(path.rpartition(b"/")[2]).partition("!")
    return (call, error.split(".")[0]) if bang else ("", "")


def serve_a_tree(mountpoint: str, notes: str) -> None:
    """Be the daemon; ends with the mount, or when the tests are gone."""
    from h5fs import fuse

    tree: Any = MemoryTree(os.open(notes, os.O_WRONLY | os.O_APPEND))
    options = MountOptions(
        Path(mountpoint), StoreOptions(Path("/memory.h5"), MountMode.UPDATE), LogOptions()
    )
    fuse.serve(tree, options, lambda _notifier: print("ready", flush=True))


# --- the mount


@dataclass
class Mounted:
    """A mount of a memory tree, a real folder to compare it with, and what the tree was asked."""

    path: Path
    real: Path
    notes: Path
    complaints: Path

    def calls(self, *names: str) -> list[list[Any]]:
        """Return the calls so far, with their arguments; of memory the size."""
        calls = [json.loads(line) for line in self.notes.read_text().splitlines()]
        return [call for call in calls if call[0] in names]


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """One mount for all tests."""
    pytest.importorskip("mfusepy", exc_type=(ImportError, OSError))
    if not os.path.exists("/dev/fuse"):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("/dev/fuse is missing")
    folder = tmp_path_factory.mktemp("writing")
    paths = [folder / name for name in ("mnt", "real", "notes", "complaints")]
    mountpoint, real, notes, complaints = paths
    mountpoint.mkdir()
    real.mkdir()
    notes.touch()
    with open(complaints, "wb") as stderr:
        daemon = subprocess.Popen(
            ["timeout", "300", sys.executable, __file__, mountpoint, notes],
            env={**os.environ, "H5FS_FUSE": "3", "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
    try:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"ready\n", complaints.read_text()
        yield Mounted(mountpoint, real, notes, complaints)
    finally:
        subprocess.run(["fusermount3", "-uz", mountpoint], check=False, timeout=240)
        daemon.terminate()
        try:
            daemon.wait(PATIENCE_SECONDS)
        finally:
            daemon.kill()


# --- the same calls on both

LIBC = ctypes.CDLL(None, use_errno=True)


def libc(name: str, *arguments: Any) -> int:
    if getattr(LIBC, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)
    return 0


def renameat2(old: Path, new: Path, flags: int) -> None:
    libc("renameat2", -100, os.fsencode(old), -100, os.fsencode(new), flags)


def utimensat(path: Path, *times: tuple[int, int]) -> None:
    values = (ctypes.c_long * 4)(*times[0], *times[1]) if times else None
    libc("utimensat", -100, os.fsencode(path), values, 0)


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call returned, or its errno's name."""
    try:
        return function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def writing_at_offsets(p: Path) -> Iterator[Any]:
    fd = os.open(p / "a", os.O_RDWR | os.O_CREAT)
    yield os.pwrite(fd, b"first", 0), os.pwrite(fd, b"beyond", 10_000), os.pwrite(fd, b"RS", 2)
    yield os.fstat(fd).st_size, os.pread(fd, 20_000, 0)
    os.close(fd)
    yield (p / "a").read_bytes(), (p / "a").stat().st_size


def truncating(p: Path) -> Iterator[Any]:
    (p / "a").write_bytes(b"0123456789" * 1000)
    os.truncate(p / "a", 7)
    yield (p / "a").read_bytes()
    with open(p / "a", "r+b") as file:
        yield file.truncate(12_345), file.read(), os.fstat(file.fileno()).st_size
        yield file.truncate(3), file.seek(0), file.read()
    yield (p / "a").read_bytes(), outcome(os.truncate, p / "none", 0), outcome(os.truncate, p, 0)


def appending(p: Path) -> Iterator[Any]:
    with open(p / "a", "ab", buffering=0) as one, open(p / "a", "ab", buffering=0) as two:
        for index in range(10):
            (one, two)[index % 2].write(b"%d" % index * (1 + index * 1000))
    yield (p / "a").read_bytes()


def opening(p: Path) -> Iterator[Any]:
    new, create = p / "a", os.O_WRONLY | os.O_CREAT
    yield outcome(os.open, new, os.O_RDONLY), outcome(os.open, p / "none/a", create)
    os.close(os.open(new, create | os.O_EXCL))
    new.write_bytes(b"content")
    yield outcome(os.open, new, create | os.O_EXCL), new.read_bytes()
    os.close(os.open(new, create))
    yield new.read_bytes()
    os.close(os.open(new, os.O_WRONLY | os.O_TRUNC))
    yield new.read_bytes(), outcome(os.open, p, os.O_WRONLY), outcome(os.open, new / "b", create)


def renaming(p: Path) -> Iterator[Any]:
    for name in ("a", "b", "d/x", "e/y", "f"):
        (p / name).parent.mkdir(exist_ok=True)
        (p / name).write_text(name)
    (p / "empty").mkdir()
    inode = (p / "a").stat().st_ino
    os.rename(p / "a", p / "b")
    yield (p / "b").read_text(), (p / "a").exists(), (p / "b").stat().st_ino == inode
    yield outcome(os.rename, p / "d", p / "e"), outcome(os.rename, p / "d", p / "empty")
    yield outcome(os.rename, p / "a", p / "z"), outcome(os.rename, p / "b", p / "e")
    yield outcome(os.rename, p / "e", p / "b"), outcome(os.rename, p / "e", p / "e/sub")
    os.rename(p / "b", p / "e/b")
    yield sorted(os.listdir(p)), sorted(os.listdir(p / "e")), (p / "empty/x").read_text()


def replacing_an_open_file(p: Path) -> Iterator[Any]:
    (p / "a").write_text("old")
    (p / "new").write_text("newer")
    with open(p / "a", "r+b", buffering=0) as file:
        os.rename(p / "new", p / "a")
        yield file.read(), file.write(b"!"), file.seek(0, 2), os.pread(file.fileno(), 9, 0)
    yield (p / "a").read_text(), os.listdir(p)


def using_an_unlinked_file(p: Path) -> Iterator[Any]:
    with open(p / "a", "w+b", buffering=0) as file:
        file.write(b"content" * 100)
        (p / "a").unlink()
        yield (p / "a").exists(), os.listdir(p), outcome(os.stat, p / "a")
        yield file.seek(0, 2), file.seek(0), file.read(), file.write(b"more")
        yield file.truncate(5), file.seek(0), file.read(), file.seek(0, 2)
        yield file.truncate(5000), file.seek(0), file.read(), os.fsync(file.fileno())
        (p / "a").write_text("another")
        yield os.pread(file.fileno(), 9, 0), (p / "a").read_text()


def folders(p: Path) -> Iterator[Any]:
    os.makedirs(p / "a/b/c")
    yield outcome(os.mkdir, p / "a"), outcome(os.rmdir, p / "a"), outcome(os.mkdir, p / "x/y")
    yield outcome(os.unlink, p / "a"), (p / "a").stat().st_nlink
    fd = os.open(p / "a/b/c", os.O_RDONLY)
    with os.scandir(p / "a/b/c") as entries:
        os.rmdir(p / "a/b/c")
        yield outcome(list, entries), os.fsync(fd), os.listdir(p / "a/b")
    yield outcome(os.rmdir, p / "a/b/c")
    os.close(fd)


def links(p: Path) -> Iterator[Any]:
    (p / "a").write_text("content")
    os.link(p / "a", p / "b")
    yield (p / "a").stat().st_nlink, (p / "a").samefile(p / "b"), (p / "b").read_text()
    yield outcome(os.link, p / "a", p / "b"), outcome(os.link, p, p / "c")
    (p / "b").write_text("changed by its other name")
    yield (p / "a").read_text(), (p / "a").stat().st_size
    (p / "a").unlink()
    yield (p / "b").stat().st_nlink, (p / "b").read_text()
    os.symlink("b", p / "s")
    os.symlink("nowhere/\udcff", p / "t")
    yield os.readlink(p / "s"), os.readlink(p / "t"), (p / "s").read_text()
    yield outcome(os.symlink, "b", p / "s"), outcome(os.stat, p / "t"), (p / "t").is_symlink()


def modes_and_owners(p: Path) -> Iterator[Any]:
    (p / "a").touch()
    for mode in (0o600, 0o4755, 0o000, 0o644):
        os.chmod(p / "a", mode)
        yield oct((p / "a").stat().st_mode)
    os.chmod(p, 0o700)
    with open(p / "a", "rb") as file:
        yield oct(p.stat().st_mode), os.fchmod(file.fileno(), 0o640), oct((p / "a").stat().st_mode)
    if os.getuid() == 0:
        for owner in ((5, -1), (-1, 6), (2**31 + 1, 7), (-1, -1)):
            os.chown(p / "a", *owner)
            yield (p / "a").stat().st_uid, (p / "a").stat().st_gid


def times(p: Path) -> Iterator[Any]:
    file = p / "a"
    file.touch()

    def seen(path: Path) -> list[Any]:
        now = time.time_ns()
        both = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        return ["now" if abs(now - t) < 10 * 10**9 else t for t in both]

    for pair in (
        ((1, 999_999_999), (2**31 + 5, 1)), ((0, UTIME_OMIT), (3, 4)), ((5, 6), (0, UTIME_OMIT)),
        ((0, UTIME_OMIT), (0, UTIME_NOW)), ((7, 8), (9, 10)), ((0, UTIME_NOW), (0, UTIME_OMIT)),
        ((11, 12), (0, UTIME_NOW)), ((-1, 5), (0, 0)), ((0, UTIME_OMIT), (0, UTIME_OMIT)), (),
    ):  # fmt: skip
        utimensat(file, *pair)
        yield seen(file)
    utimensat(p, (1, 2), (3, 4))
    yield seen(p)
    with open(file, "r+b") as opened:
        os.utime(opened.fileno(), ns=(123, 456))
    yield seen(file)


def mapping(p: Path) -> Iterator[Any]:
    (p / "a").write_bytes(bytes(3 * mmap.PAGESIZE + 5))
    with open(p / "a", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[10:15] = b"hello"
        mapped[-3:] = b"end"
        mapped.flush()
        yield os.pread(file.fileno(), 5, 10), (p / "a").read_bytes()
        mapped[mmap.PAGESIZE :][:1]
        mapped[mmap.PAGESIZE] = 7
    yield (p / "a").read_bytes()
    with open(p / "a", "r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    (p / "a").unlink()
    mapped[0] = 1
    yield mapped.flush(), mapped[:1]
    mapped.close()


def programs(p: Path) -> Iterator[Any]:
    (p / "source").mkdir()
    (p / "source/a").write_bytes(os.urandom(3 * MIB))
    (p / "source/b").write_text("text\n")
    os.symlink("a", p / "source/s")
    os.link(p / "source/b", p / "source/h")
    script = """
        cp -a source copy && diff -r source copy && mv -n source/b copy/b && cat copy/b
        echo other > c && mv -n c copy/b; cat c; sed -i s/text/TEXT/ copy/b && cat copy/b copy/h
        dd if=copy/a of=d bs=64K conv=fsync status=none && cmp d source/a && echo same
        tar cf t.tar copy && mkdir x && tar xf t.tar -C x && diff -r copy x/copy && echo equal
        rm -r source copy x d t.tar && ls -A
    """
    done = subprocess.run(["sh", "-c", script], cwd=p, capture_output=True, text=True, check=False)
    yield done.returncode, done.stdout, done.stderr


SCENARIOS = [
    writing_at_offsets, truncating, appending, opening, renaming, replacing_an_open_file,
    using_an_unlinked_file, folders, links, modes_and_owners, times, mapping, programs,
]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_calls_do_what_they_do_on_a_real_folder(
    mounted: Mounted, scenario: Callable[[Path], Iterator[Any]]
) -> None:
    results = []
    for place in (mounted.path, mounted.real):
        folder = place / scenario.__name__
        folder.mkdir()
        results.append(list(scenario(folder)))
    assert results[0] == results[1]


# --- what is only so here


@pytest.fixture
def folder(mounted: Mounted) -> Path:
    """A new folder in the mount for each test."""
    return Path(tempfile.mkdtemp(dir=mounted.path))


def test_renameat2_has_its_flags(folder: Path) -> None:
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    taken = outcome(renameat2, folder / "a", folder / "b", RENAME_NOREPLACE)
    assert (taken, (folder / "b").read_text()) == ("EEXIST", "b")
    moved = outcome(renameat2, folder / "a", folder / "c", RENAME_NOREPLACE)
    assert moved is None
    (folder / "a").write_text("a")
    exchanged = outcome(renameat2, folder / "a", folder / "b", RENAME_EXCHANGE)
    assert exchanged is None
    assert (folder / "a").read_text() == "b"


def test_an_open_truncates_in_one_call(mounted: Mounted, folder: Path) -> None:
    (folder / "a").write_text("content")
    before = len(mounted.calls("truncate")), len(mounted.calls("open"))
    os.close(os.open(folder / "a", os.O_WRONLY | os.O_TRUNC))
    assert len(mounted.calls("truncate")) == before[0]
    (call,) = mounted.calls("open")[before[1] :]
    assert call[2] & os.O_TRUNC
    assert call[3] == os.getpid()


def test_create_has_the_mode_and_says_whether_it_is_exclusive(
    mounted: Mounted, folder: Path
) -> None:
    for name, flags, mode in (
        ("a", os.O_RDWR | os.O_EXCL, 0o600), ("b", os.O_WRONLY | os.O_EXCL, 0), ("c", os.O_RDWR, 0)
    ):  # fmt: skip
        os.close(os.open(folder / name, flags | os.O_CREAT, mode))
        call = mounted.calls("create")[-1]
        assert (call[2] & (os.O_ACCMODE | os.O_EXCL), call[4]) == (flags, mode)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_each_close_flushes_with_its_own_process(mounted: Mounted, folder: Path) -> None:
    fd = os.open(folder / "a", os.O_RDWR | os.O_CREAT)
    (_, path, flags, opener, mode) = mounted.calls("create")[-1]
    assert (path.rpartition("/")[2], flags & os.O_ACCMODE) == ("a", os.O_RDWR)
    assert mode == 0o777 & ~_umask()
    before = len(mounted.calls("flush"))
    os.close(os.dup(fd))
    children = []
    for closes in (True, False):  # a process that ends closes too
        children.append(os.fork())
        if children[-1] == 0:
            if closes:
                os.close(fd)
            os._exit(0)
        os.waitpid(children[-1], 0)
    os.close(fd)
    flushes = mounted.calls("flush")[before:]
    assert opener == os.getpid()
    assert [pid for _, _, pid in flushes] == [os.getpid(), *children, os.getpid()]
    assert len({handle for _, handle, _ in flushes}) == 1


def test_the_kernel_does_not_ask_at_the_close_of_a_handle_that_only_reads(
    mounted: Mounted, folder: Path
) -> None:
    (folder / "a").write_bytes(b"abc")
    os.rename(folder / "a", folder / "reads!")
    before = len(mounted.calls("flush"))
    assert (folder / "reads!").read_bytes() == b"abc"
    assert len(mounted.calls("flush")) == before
    os.rename(folder / "reads!", folder / "a")
    assert (folder / "a").read_bytes() == b"abc"
    assert len(mounted.calls("flush")) == before + 1


def test_threads_are_their_process(mounted: Mounted, folder: Path) -> None:
    fds: list[int] = []
    before = len(mounted.calls("create", "flush"))
    for step in (
        lambda: fds.append(os.open(folder / "a", os.O_WRONLY | os.O_CREAT)),
        lambda: os.close(fds[0]),
    ):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    (_, _, _, creator, _), (_, _, closer) = mounted.calls("create", "flush")[before:]
    assert [creator, closer] == [os.getpid()] * 2


@pytest.mark.parametrize("error", sorted(FAILURES))
def test_an_error_of_flush_is_that_of_close(mounted: Mounted, folder: Path, error: str) -> None:
    fd = os.open(folder / f"flush!{error}", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"content")
    assert outcome(os.close, fd) == expected_errno(error)


def expected_errno(error: str) -> str:
    raised = FAILURES[error]
    number = raised.errno if isinstance(raised, errors.H5fsError) else 0
    return errno.errorcode[number or errno.EIO]


FAILING: dict[str, Callable[[Path], Any]] = {
    "create": lambda p: os.open(p, os.O_CREAT | os.O_WRONLY),
    "make_folder": os.mkdir,
    "make_symbolic_link": lambda p: os.symlink("x", p),
    "make_hard_link": lambda p: os.link(p.parent / "other", p),
    "rename": lambda p: os.rename(p.parent / "other", p),
    "open": lambda p: os.open(made(p), os.O_WRONLY),
    "bypasses_cache": lambda p: os.open(made(p), os.O_WRONLY),
    "write": lambda p: on_file(p, lambda fd: os.write(fd, b"x")),
    "read_into": lambda p: on_file(p, lambda fd: os.write(fd, b"x") and os.pread(fd, 1, 0)),
    "fsync": lambda p: on_file(p, os.fsync),
    "truncate": lambda p: on_file(p, lambda fd: os.ftruncate(fd, 1)),
    "unlink": lambda p: os.unlink(made(p)),
    "set_mode": lambda p: os.chmod(made(p), 0o600),
    "set_owner": lambda p: os.chown(made(p), os.getuid(), os.getgid()),
    "set_times": lambda p: os.utime(made(p)),
    "remove_folder": lambda p: os.rmdir(made_folder(p)),
    "sync_folder": lambda p: os.fsync(os.open(made_folder(p), os.O_RDONLY)),
}


def made(path: Path) -> Path:
    """Make a file under another name first, since its own name says what fails."""
    (path.parent / "other").rename(path)
    return path


def made_folder(path: Path) -> Path:
    path.mkdir()
    return path


def on_file(path: Path, function: Callable[[int], Any]) -> Any:
    with open(path, "w+b", buffering=0) as file:
        return function(file.fileno())


@pytest.mark.parametrize("error", ["NoSpaceError", "UnheardOfError", "BrokenError", "OSError"])
@pytest.mark.parametrize("call", FAILING)
def test_an_error_of_each_call_arrives(
    mounted: Mounted, folder: Path, call: str, error: str
) -> None:
    (folder / "other").touch()
    assert outcome(FAILING[call], folder / f"{call}!{error}") == expected_errno(error)
    if call == "bypasses_cache":  # no handle stays open in the tree
        assert mounted.calls("bypasses_cache")[-1][1:] in [c[1:] for c in mounted.calls("release")]


def test_writes_arrive_in_large_pieces(mounted: Mounted, folder: Path) -> None:
    data = os.urandom(4 * MIB)
    before = len(mounted.calls("write"))
    with open(folder / "a", "wb", buffering=0) as file:
        file.write(data)
    sizes = [size for _, _, size, _ in mounted.calls("write")[before:]]
    assert (sum(sizes), max(sizes)) == (len(data), MIB)
    assert (folder / "a").read_bytes() == data


def test_a_handle_past_the_page_cache_reads_and_writes_what_is_asked(
    mounted: Mounted, folder: Path
) -> None:
    before = len(mounted.calls("write"))
    fd = os.open(folder / "direct!", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"abc", 5)
    reads = len(mounted.calls("read_into"))
    assert [os.pread(fd, 3, 5) for _ in range(2)] == [b"abc"] * 2
    assert len(mounted.calls("read_into")) == reads + 2
    os.close(fd)
    assert [call[2:] for call in mounted.calls("write")[before:]] == [[3, 5]]


def test_memory_that_is_kept_cannot_be_used_once_it_is_libfuse_s_again(
    mounted: Mounted, folder: Path
) -> None:
    before = len(mounted.calls("flush"))
    (folder / "keep!").write_text("content")  # `flush` looks at what `write` has kept
    assert len(mounted.calls("flush")) > before


def test_pipes_are_refused(folder: Path) -> None:
    assert outcome(os.mkfifo, folder / "a") == "EPERM"
    os.mknod(folder / "b", stat.S_IFREG | 0o600)
    assert os.listdir(folder) == ["b"]


def test_a_file_without_a_name_has_its_status(folder: Path) -> None:
    """The kernel sends fstat without the handle, and libfuse has no path.

    (github.com/libfuse/libfuse/issues/62.)
    """
    (folder / "a").write_bytes(b"12345")
    with open(folder / "a", "rb") as old, open(folder / "b", "w+b", buffering=0) as new:
        (folder / "a").unlink()
        assert (os.fstat(old.fileno()).st_size, os.fstat(old.fileno()).st_nlink) == (5, 0)
        (folder / "a").mkdir()
        assert os.fstat(old.fileno()).st_size == 5
        inode = os.fstat(new.fileno()).st_ino
        (folder / "b").unlink()
        new.write(b"abc")
        os.utime(new.fileno(), ns=(10, 20))
        status = os.fstat(new.fileno())
        assert (status.st_size, status.st_nlink, status.st_ino) == (3, 0, inode)
        assert (status.st_atime_ns, status.st_mtime_ns) == (10, 20)


def test_what_is_not_known_to_be_an_open_file_has_no_status_without_a_name(folder: Path) -> None:
    """Not as on a real folder: a new file's node is known by its first use."""
    with open(folder / "a", "w+b", buffering=0) as new, open(folder / "b", "w+b") as other:
        (folder / "a").unlink()
        (folder / "b").unlink()
        for descriptor in (new.fileno(), other.fileno()):
            assert outcome(os.fstat, descriptor) == "ESTALE"
        new.truncate(7)
        assert os.fstat(new.fileno()).st_size == 7
        assert outcome(os.fstat, other.fileno()) == "ESTALE"


def test_an_open_folder_has_a_status_when_it_is_removed(folder: Path) -> None:
    (folder / "c").mkdir()
    status = (folder / "c").stat()
    gone = os.open(folder / "c", os.O_RDONLY)
    (folder / "c").rmdir()
    after = os.fstat(gone)
    assert (after.st_ino, after.st_mode, after.st_nlink) == (status.st_ino, status.st_mode, 0)
    assert os.listdir(gone) == []
    os.close(gone)


def test_fstat_of_an_open_file_sees_what_was_written(folder: Path) -> None:
    with open(folder / "a", "wb", buffering=0) as file:
        for size in range(1, 100, 7):
            os.ftruncate(file.fileno(), size)
            assert os.fstat(file.fileno()).st_size == (folder / "a").stat().st_size == size


def test_the_kernel_keeps_no_names(mounted: Mounted, folder: Path) -> None:
    assert not (folder / "a").exists()
    before = len(mounted.calls("get_lasting_status"))
    assert not (folder / "a").exists()
    assert len(mounted.calls("get_lasting_status")) > before


def test_the_kernel_checks_the_mode_bits(mounted: Mounted) -> None:
    (line,) = (line for line in table_of_mounts().splitlines() if f" {mounted.path} " in line)
    assert {"rw", "default_permissions"} <= set(line.split()[3].split(","))


if __name__ == "__main__":
    serve_a_tree(*sys.argv[1:])

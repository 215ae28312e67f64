"""The FUSE room without a kernel: structures, guard, options, threads, over both libfuses."""

from __future__ import annotations

import ctypes
import errno
import importlib
import logging
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import PATIENCE_SECONDS, wait_until

from h5fs.errors import H5fsError, InvalidArrayError, NotFoundError, UnreadableError
from h5fs.fuse import session as session_module
from h5fs.fuse.callers import find_process
from h5fs.fuse.guard import guarded
from h5fs.fuse.library.binding import Binding, load_binding
from h5fs.fuse.library.current_requests import CurrentRequests
from h5fs.fuse.library.libfuse import fuse_arguments
from h5fs.fuse.library.libfuse_3 import Libfuse3
from h5fs.fuse.library.structures import status_packer
from h5fs.fuse.operations import Operations
from h5fs.fuse.session import MountRefusedError, Session
from h5fs.model.file_status import SpaceStatus
from h5fs.model.settings import LogOptions, Mode, MountOptions, StoreOptions
from h5fs.store.sources.local_file import space_at
from h5fs.tree.dentries import Dentries
from h5fs.tree.status import Dentry, Status

MODULES = {2: "fuse", 3: "mfusepy"}


@pytest.fixture(params=[2, 3], ids=["libfuse2", "libfuse3"])
def binding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Binding:
    """Each binding that is installed."""
    pytest.importorskip(MODULES[request.param], exc_type=(ImportError, OSError))
    monkeypatch.setenv("H5FS_FUSE", str(request.param))
    return load_binding()


# --- which binding


def test_binding_is_described_with_both_versions(binding: Binding) -> None:
    package, version, over, libfuse, number = binding.describe().split()
    assert (package, over, libfuse) == (binding.package, "over", "libfuse")
    assert version[0].isdigit()
    assert number.startswith(f"{binding.major}.")


def test_without_libfuse_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSE_LIBRARY_PATH", "/nonexistent")
    for choice, package in [("", "fuse3 "), ("2", "libfuse2"), ("3", "fuse3 ")]:
        monkeypatch.setenv("H5FS_FUSE", choice)
        with pytest.raises(OSError, match=package):
            load_binding()


@pytest.mark.semantics("M21")
def test_libfuse_3_is_taken_where_it_is_and_libfuse_2_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in MODULES.values():
        pytest.importorskip(module, exc_type=(ImportError, OSError))
    monkeypatch.delenv("H5FS_FUSE", raising=False)
    assert load_binding().major == 3
    monkeypatch.setattr(Libfuse3, "SONAMES", ("libnone.so.3",))
    monkeypatch.setattr(Libfuse3, "LINKER_NAME", "none")
    assert load_binding().major == 2


def test_an_unknown_choice_of_binding_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("H5FS_FUSE", "4")
    with pytest.raises(OSError, match="must be 2 or 3"):
        load_binding()


def test_choosing_leaves_the_environment_as_it_was(binding: Binding) -> None:
    assert "FUSE_LIBRARY_PATH" not in os.environ
    assert os.environ["H5FS_FUSE"] == str(binding.major)


# --- structures

U32 = st.integers(0, 2**32 - 1)
U31 = st.integers(0, 2**31 - 1)
I63 = st.integers(0, 2**63 - 1)
TIME_NS = st.integers(-(2**62), 2**63 - 1)


@pytest.mark.parametrize("name", MODULES.values())
@given(
    st.tuples(I63, U32, U32, U32, U32, I63, I63, U31), st.tuples(TIME_NS, TIME_NS, TIME_NS)
)  # fmt: skip
def test_status_is_packed_as_the_binding_sets_it(
    name: str, numbers: tuple[int, ...], times: tuple[int, ...]
) -> None:
    module = pytest.importorskip(name, exc_type=(ImportError, OSError))
    names = "st_ino st_mode st_nlink st_uid st_gid st_size st_blocks st_blksize".split()
    expected = module.c_stat()
    names += ["st_atime", "st_mtime", "st_ctime"]
    values = dict(zip(names, (*numbers, *times), strict=True))
    module.set_st_attrs(expected, values, use_ns=True)
    pairs = [part for time in times for part in divmod(time, 10**9)]
    packed = status_packer(module.c_stat).pack((*numbers, *pairs))
    assert packed == bytes(expected)


# --- guard


class UnspeakableError(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


ERRORS: list[BaseException] = [
    OSError("no errno, as from h5py"), OSError(-5, "negative"), ValueError(), MemoryError(),
    RecursionError(), SystemExit(0), KeyboardInterrupt(), GeneratorExit(), UnspeakableError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_is_raised_is_eio(error: BaseException) -> None:
    def read(*_: object) -> int:
        raise error

    assert guarded(read)(b"/\xff.npy", 1) == -errno.EIO
    assert guarded(read)() == -errno.EIO


def test_each_refusal_has_its_errno_and_answers_are_not_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(error: H5fsError) -> Callable[..., int]:
        def read(*_: object) -> int:
            raise error

        return guarded(read)

    assert refuse(NotFoundError("gone"))(b"/a") == -errno.ENOENT
    assert not caplog.records
    assert refuse(UnreadableError("bad chunk"))(b"/a\n") == -errno.EIO
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "read /a\\n: Input/output error: bad chunk"


def test_the_log_names_what_a_changing_call_was_about(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(name: str) -> Callable[..., int]:
        def call(*_: object) -> int:
            raise InvalidArrayError("no header")

        call.__name__ = name
        return guarded(call)

    assert refuse("flush")(None, 1) == -errno.EINVAL
    assert refuse("rename")(b"/a", b"/b", 0) == -errno.EINVAL
    assert refuse("symlink")(b"../x", b"/b") == -errno.EINVAL
    assert refuse("readlink")(b"/a", 1, 1) == -errno.EINVAL  # an answer, no news
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"{what}: Invalid argument: no header"
        for what in ("flush (unlinked)", "rename /a -> /b", "symlink ../x -> /b")
    ]


def test_an_error_without_an_errno_is_no_success() -> None:
    class BrokenError(H5fsError):
        errno = 0

    def write(*_: object) -> int:
        raise BrokenError

    assert guarded(write)(b"/a") == -errno.EIO


def test_a_log_that_fails_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    def read(*_: object) -> int:
        raise UnreadableError("bad chunk")

    monkeypatch.setattr(logging.getLogger("h5fs.fuse"), "log", fail)
    assert guarded(read)(b"/a") == -errno.EIO


# --- operations

STATUS = Status(
    inode=7, mode=stat.S_IFREG | 0o444, hard_link_count=2, uid=3, gid=4, size_bytes=2**40 + 5,
    blocks=9, atime_ns=1_500_000_000, mtime_ns=-1, ctime_ns=10**18 + 1,
)  # fmt: skip


class FakeTree:
    """One file with the name of every byte, and whatever a test puts into it."""

    NAME = b"/" + bytes(byte for byte in range(1, 256) if byte != ord("/"))

    def __init__(self) -> None:
        self.kept: memoryview | None = None
        self.keeps_buffer = False
        self.count: int | None = None
        self.released: list[int] = []
        self.more = 0
        self.current = object()

    def get_status(self, path: bytes) -> Status:
        if path != self.NAME:
            raise NotFoundError("no such file")
        return STATUS

    def list_folder(self, _path: bytes) -> Dentries:
        first = [Dentry(self.NAME[1:], 7, stat.S_IFREG, STATUS), Dentry(b"link", 8, stat.S_IFLNK)]
        more = (Dentry(b"%d" % number, number, stat.S_IFDIR) for number in range(self.more))
        return Dentries.of([*first, *more])

    def keeps_folder(self, path: bytes) -> bool:
        return path == b"/kept"

    def version(self) -> object:
        return self.current

    def read_link(self, _path: bytes) -> bytes:
        return b"t" * 100

    def open(self, path: bytes, flags: int) -> int:
        assert (path, flags) == (self.NAME, os.O_RDONLY)
        return 2**40

    def keeps_cache(self, handle: int) -> bool:
        return handle == 2**40

    def read_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        assert handle == 2**40
        if self.keeps_buffer:
            self.kept = buffer
        data = (b"0123456789" * 10)[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        return len(data) if self.count is None else self.count

    def release(self, handle: int) -> None:
        self.released.append(handle)

    def get_file_system_status(self) -> SpaceStatus:
        return space_at(b"/")

    def list_xattrs(self, _path: bytes) -> list[bytes]:
        return [b"user.a", b"user.\xff"]

    def get_xattr(self, _path: bytes, name: bytes) -> bytes:
        return name


class Calls:
    """The functions of a binding's table, called as libfuse calls them."""

    def __init__(
        self, binding: Binding, *, has_xattrs: bool = True, caches_folders: bool = False
    ) -> None:
        self.tree = FakeTree()
        tree: Any = self.tree
        self.noted: list[int] = []
        self.module = binding.module
        self.operations = Operations(
            tree, binding, on_init=lambda *_: None, has_xattrs=has_xattrs,
            caches_folders=caches_folders, note_nodes=self.noted.append,
        )  # fmt: skip
        self.table = self.operations.make_table(lambda function: function)
        self.three = binding.major == 3
        self.file_info = self.module.fuse_file_info()

    def getattr(self, path: bytes, status: Any) -> int:
        last = (ctypes.byref(self.file_info),) if self.three else ()
        return int(self.table.getattr(path, ctypes.byref(status), *last))

    def read(self, size: int, offset: int) -> tuple[int, bytes]:
        buffer = (ctypes.c_byte * (size + 8))()
        info = ctypes.byref(self.file_info)
        count = self.table.read(FakeTree.NAME, buffer, size, offset, info)
        return count, bytes(buffer)


@pytest.fixture
def calls(binding: Binding) -> Calls:
    """The operations over the fake tree."""
    return Calls(binding)


def test_getattr_fills_all_of_the_status(calls: Calls) -> None:
    status = calls.module.c_stat.from_buffer(
        bytearray(b"\xaa" * ctypes.sizeof(calls.module.c_stat))
    )
    assert calls.getattr(FakeTree.NAME, status) == 0
    assert (status.st_ino, status.st_mode, status.st_nlink) == (7, stat.S_IFREG | 0o444, 2)
    assert (status.st_uid, status.st_gid, status.st_rdev) == (3, 4, 0)
    assert (status.st_size, status.st_blocks) == (2**40 + 5, 9)
    assert (status.st_mtimespec.tv_sec, status.st_mtimespec.tv_nsec) == (-1, 999_999_999)
    assert (status.st_ctimespec.tv_sec, status.st_ctimespec.tv_nsec) == (10**9, 1)
    assert calls.getattr(b"/nothing", status) == -errno.ENOENT


def test_a_file_is_opened_read_and_released_by_its_handle(calls: Calls) -> None:
    info = ctypes.byref(calls.file_info)
    assert calls.table.open(FakeTree.NAME, info) == 0
    assert calls.read(7, 5) == (7, b"5678901" + bytes(8))
    assert calls.read(7, 98) == (2, b"89" + bytes(13))
    assert calls.read(7, 1000) == (0, bytes(15))
    assert calls.table.release(FakeTree.NAME, info) == 0
    assert calls.tree.released == [2**40]


def test_a_read_that_breaks_its_promise_is_eio(calls: Calls) -> None:
    calls.file_info.fh = 2**40
    for count in (-1, 8, 2**31):
        calls.tree.count = count
        assert calls.read(7, 0)[0] == -errno.EIO


def test_a_buffer_that_is_kept_cannot_be_used_once_it_is_libfuse_s_again(calls: Calls) -> None:
    calls.file_info.fh = 2**40
    calls.tree.keeps_buffer = True
    assert calls.read(7, 0)[0] == 7
    assert calls.tree.kept is not None
    with pytest.raises(ValueError, match="released"):
        bytes(calls.tree.kept)


def list_all(calls: Calls, *, room: int, flags: int = 0) -> list[tuple[bytes, Any, int]]:
    """Return name, ``struct stat`` and flags of all dentries, taken ``room`` at a time."""
    seen: list[tuple[bytes, Any, int]] = []
    offset = left = 0

    def fill(_collector: int, name: bytes, status: Any, place: int, filled: int = 0) -> int:
        nonlocal offset, left
        if not left:
            return 1
        offset, left = place, left - 1
        copy = calls.module.c_stat.from_buffer_copy(status.contents) if status else None
        seen.append((name, copy, filled))
        return 0

    fields = dict(field[:2] for field in calls.module.fuse_operations._fields_)
    filler = fields["readdir"]._argtypes_[2](fill)
    last = (flags,) if calls.three else ()
    info = ctypes.byref(calls.file_info)
    assert calls.table.opendir(b"/", info) == 0
    while not left:
        left = room
        assert calls.table.readdir(b"/", None, filler, offset, info, *last) == 0
    assert calls.table.releasedir(b"/", info) == 0
    return seen


@pytest.mark.parametrize("room", [1, 2, 3, 700, 10_000])
def test_folders_are_listed_with_inode_and_type(calls: Calls, room: int) -> None:
    calls.tree.more = 2000 if room > 3 else 5
    seen = list_all(calls, room=room)
    dentries = list(calls.tree.list_folder(b"/"))
    assert [name for name, _, _ in seen] == [b".", b"..", *(d.name for d in dentries)]
    types = [(d.inode, d.mode) for d in dentries]
    assert [(s.st_ino, stat.S_IFMT(s.st_mode)) for _, s, _ in seen[2:]] == types
    assert not any(filled for _, _, filled in seen)


def test_a_listing_has_the_statuses_that_are_known_when_they_are_wanted(calls: Calls) -> None:
    calls.tree.more = 3
    seen = list_all(calls, room=3, flags=1)
    assert [filled for _, _, filled in seen] == ([0, 0, 2] if calls.three else [0] * 3) + [0] * 4
    asked = calls.module.c_stat()
    assert calls.getattr(FakeTree.NAME, asked) == 0
    assert bytes(seen[2][1]) == bytes(asked)


@pytest.mark.semantics("W7")
def test_answers_that_let_the_kernel_remember_a_file_are_counted(calls: Calls) -> None:
    calls.tree.more = 3
    list_all(calls, room=100, flags=1)
    assert sum(calls.noted) == calls.three  # one of them has a status
    calls.getattr(FakeTree.NAME, calls.module.c_stat())
    calls.getattr(b"/nothing", calls.module.c_stat())
    assert sum(calls.noted) == calls.three + 1
    list_all(calls, room=100, flags=0)
    assert sum(calls.noted) == calls.three + 1


def test_a_listing_goes_on_with_the_same_dentries_and_begins_with_new_ones(calls: Calls) -> None:
    calls.tree.more = 5
    names: list[bytes] = []

    def fill(_collector: int, name: bytes, *_: Any) -> int:
        names.append(name)
        return len(names) % 4 == 0

    fields = dict(field[:2] for field in calls.module.fuse_operations._fields_)
    filler = fields["readdir"]._argtypes_[2](fill)
    info, last = ctypes.byref(calls.file_info), (0,) if calls.three else ()
    assert calls.table.opendir(b"/", info) == 0
    assert calls.table.readdir(b"/", None, filler, 0, info, *last) == 0
    calls.tree.more = 0
    assert calls.table.readdir(b"/", None, filler, 3, info, *last) == 0
    assert names[4:] == [b"link", b"0", b"1", b"2"]
    names.clear()
    assert calls.table.readdir(b"/", None, filler, 0, info, *last) == 0
    assert calls.table.readdir(b"/", None, filler, 3, info, *last) == 0
    assert names == [b".", b"..", FakeTree.NAME[1:], b"link", b"link"]
    assert calls.table.readdir(None, None, filler, 0, info, *last) == 0  # it was removed
    assert names[5:] == [b".", b".."]
    assert calls.table.releasedir(None, info) == 0


def test_statuses_of_a_version_that_is_gone_are_not_given(calls: Calls) -> None:
    calls.tree.more = 3
    listed: list[tuple[bytes, int]] = []

    def fill(_collector: int, name: bytes, _status: Any, _place: int, filled: int = 0) -> int:
        listed.append((name, filled))
        return name == b".."

    fields = dict(field[:2] for field in calls.module.fuse_operations._fields_)
    filler = fields["readdir"]._argtypes_[2](fill)
    info, last = ctypes.byref(calls.file_info), (1,) if calls.three else ()
    assert calls.table.opendir(b"/", info) == 0
    assert calls.table.readdir(b"/", None, filler, 0, info, *last) == 0
    calls.tree.current = object()
    assert calls.table.readdir(b"/", None, filler, 2, info, *last) == 0
    assert listed[2:] and not any(filled for _, filled in listed)
    listed.clear()
    assert calls.table.readdir(b"/", None, filler, 0, info, *last) == 0
    assert calls.table.readdir(b"/", None, filler, 2, info, *last) == 0
    assert any(filled for _, filled in listed) == calls.three


@pytest.mark.semantics("S10")
def test_who_goes_on_behind_the_kernel_s_copy_of_an_old_listing_is_told(binding: Binding) -> None:
    calls = Calls(binding, caches_folders=True)
    filler = dict(f[:2] for f in calls.module.fuse_operations._fields_)["readdir"]._argtypes_[2](
        lambda *_: 0
    )
    info, last = ctypes.byref(calls.file_info), (0,) if calls.three else ()
    for changes in (False, True):
        assert calls.table.opendir(b"/", info) == 0
        if changes:
            calls.tree.current = object()
        found = calls.table.readdir(b"/", None, filler, 3, info, *last)
        assert found == (-errno.ESTALE if changes and calls.three else 0)
        assert calls.table.releasedir(b"/", info) == 0


@pytest.mark.parametrize("caches", [True, False])
def test_the_kernel_keeps_listings_where_the_tree_says_so(binding: Binding, caches: bool) -> None:
    calls = Calls(binding, caches_folders=caches)
    for path in (b"/", b"/kept"):
        info = calls.module.fuse_file_info()
        assert calls.table.opendir(path, ctypes.byref(info)) == 0
        assert info.keep_cache == (caches and calls.three and path == b"/kept")
        assert getattr(info, "cache_readdir", 0) == (caches and calls.three)


def test_a_link_text_is_cut_to_its_buffer(calls: Calls) -> None:
    buffer = (ctypes.c_byte * 16)(*[1] * 16)
    assert calls.table.readlink(b"/link", buffer, 10) == 0
    assert bytes(buffer) == b"t" * 9 + b"\0" + b"\1" * 6


def test_extended_attributes_tell_their_size_first(calls: Calls) -> None:
    buffer = (ctypes.c_byte * 32)()
    assert calls.table.listxattr(b"/a", None, 0) == 14
    assert calls.table.listxattr(b"/a", buffer, 13) == -errno.ERANGE
    assert calls.table.listxattr(b"/a", buffer, 32) == 14
    assert ctypes.string_at(buffer, 14) == b"user.a\0user.\xff\0"
    assert calls.table.getxattr(b"/a", b"user.\xff", buffer, 32) == 6
    assert ctypes.string_at(buffer, 6) == b"user.\xff"


def test_without_xattrs_the_kernel_is_told_that_there_are_none(binding: Binding) -> None:
    table = Calls(binding, has_xattrs=False).table
    assert not table.getxattr and not table.listxattr
    assert table.getattr


def test_statfs_is_that_of_the_file_system_below(calls: Calls) -> None:
    status = calls.module.c_statvfs()
    assert calls.table.statfs(b"/", ctypes.byref(status)) == 0
    below = os.statvfs("/")
    assert (status.f_bsize, status.f_blocks, status.f_namemax) == (
        below.f_bsize, below.f_blocks, below.f_namemax
    )  # fmt: skip


# --- callers


def test_a_thread_is_its_process() -> None:
    asked, answered = threading.Event(), threading.Event()
    numbers: list[int] = []

    def wait() -> None:
        numbers.append(threading.get_native_id())
        asked.set()
        answered.wait(PATIENCE_SECONDS)

    thread = threading.Thread(target=wait)
    thread.start()
    asked.wait(PATIENCE_SECONDS)
    found = [find_process(number) for number in (numbers[0], os.getpid(), 0, -1, 2**30)]
    answered.set()
    thread.join()
    assert numbers[0] != os.getpid()
    assert found == [os.getpid(), os.getpid(), 0, 0, 2**30]


# --- options


def make_options(*fuse: tuple[str, str | None], mode: Mode = Mode.READ) -> MountOptions:
    return MountOptions(
        mountpoint=Path("/mnt"), store=StoreOptions(Path("/a,b\\c.h5"), mode), log=LogOptions(),
        fuse=fuse,
    )  # fmt: skip


COMMON = [
    b"ro", b"entry_timeout=86400", b"attr_timeout=86400",
    b"negative_timeout=86400", b"fsname=/a\\,b\\\\c.h5", b"subtype=h5fs",
]  # fmt: skip


def test_options_of_mode_r_are_spelled_for_each_libfuse() -> None:
    two = fuse_arguments(make_options(), 2)
    three = fuse_arguments(make_options(), 3)
    assert sorted(two.options) == sorted([*COMMON, b"use_ino"])
    assert sorted(three.options) == sorted(COMMON)
    assert (two.config, three.config) == ((), ("use_ino",))


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode.writes])
def test_options_of_the_write_modes_let_the_kernel_keep_nothing(mode: Mode) -> None:
    arguments = fuse_arguments(make_options(mode=mode), 3)
    expected = {
        b"entry_timeout=0", b"attr_timeout=0", b"negative_timeout=0", b"atomic_o_trunc",
        b"default_permissions", b"fsname=/a\\,b\\\\c.h5", b"subtype=h5fs",
    }  # fmt: skip
    assert (set(arguments.options), arguments.config) == (expected, ("use_ino", "hard_remove"))


def test_the_user_s_options_win_in_the_write_modes() -> None:
    given = make_options(("attr_timeout", "1.5"), ("kernel_cache", None), mode=Mode.UPDATE)
    options = fuse_arguments(given, 3).options
    assert {b"attr_timeout=1.5", b"kernel_cache"} <= set(options)
    assert b"attr_timeout=0" not in options


def test_options_that_libfuse_3_has_no_more_are_left_out() -> None:
    given = make_options(
        ("nonempty", None), ("big_writes", None), ("large_read", None), ("hard_remove", None),
        ("direct_io", None), ("max_read", "4096"), ("attr_timeout", "0"),
    )  # fmt: skip
    two = fuse_arguments(given, 2).options
    assert {b"nonempty", b"big_writes", b"large_read", b"hard_remove", b"direct_io"} <= set(two)
    three = fuse_arguments(given, 3)
    assert three.config == ("use_ino", "hard_remove", "direct_io")
    assert (three.max_read_bytes, fuse_arguments(make_options(), 3).max_read_bytes) == (4096, None)
    assert three.lists_statuses
    wanted = {*COMMON, b"max_read=4096", b"attr_timeout=0"} - {b"attr_timeout=86400"}
    assert set(three.options) == wanted


@pytest.mark.parametrize("major", [2, 3])
def test_other_users_get_in_only_past_the_modes(major: int) -> None:
    shared = make_options(("allow_other", None))
    assert b"default_permissions" in fuse_arguments(shared, major).options
    assert b"default_permissions" not in fuse_arguments(make_options(), major).options


# --- threads


class FakeLibrary:
    """libfuse's functions over a queue of requests in the place of /dev/fuse."""

    def __init__(self, *, mounts: bool = True) -> None:
        self.requests: queue.Queue[Callable[[], int]] = queue.Queue()
        self.received: dict[int, Callable[[], int]] = {}
        self.is_exited = False
        self.is_unmounted = False
        self.mounts = mounts
        self._descriptor = -1
        # ctypes lets the types of a function be set on it; plain functions do too.
        for name in (
            "new", "mount", "loop", "exit", "unmount", "destroy", "get_session", "session_fd",
            "parse_conn_info_opts", "apply_conn_info_opts",
            "session_receive_buf", "session_process_buf",
        ):  # fmt: skip
            method = getattr(self, f"_{name}")
            setattr(self, f"fuse_{name}", lambda *arguments, method=method: method(*arguments))

    def fuse_version(self) -> int:
        return 317

    def _parse_conn_info_opts(self, *_: object) -> int:
        return 1

    _new = _parse_conn_info_opts

    def _mount(self, *_: object) -> int:
        return 0 if self.mounts else -1

    def _loop(self, _fuse: object) -> int:
        while not self.is_exited:
            try:
                request = self.requests.get(timeout=0.01)
            except queue.Empty:
                continue
            request()
        return 0

    def _session_receive_buf(self, *_: object) -> int:
        try:
            self.received[threading.get_ident()] = self.requests.get(timeout=0.01)
        except queue.Empty:
            return 0 if self.is_exited else -errno.EINTR
        return 1

    def _session_process_buf(self, *_: object) -> None:
        self.received[threading.get_ident()]()

    def _nothing(self, *_: object) -> None: ...

    _get_session = _apply_conn_info_opts = _destroy = _nothing

    def _session_fd(self, *_: object) -> int:
        return self._descriptor

    def _exit(self, _fuse: object) -> None:
        self.is_exited = True

    def _unmount(self, *_: object) -> None:
        self.is_unmounted = True


@pytest.fixture(params=[False, True], ids=["mode r", "mode r+"])
def requests(request: pytest.FixtureRequest) -> CurrentRequests | None:
    """What a session notes of requests: in a mode that writes, where one thread receives."""
    return CurrentRequests() if request.param else None


def make_session(
    library: FakeLibrary, requests: CurrentRequests | None = None,
    count_waiting: Callable[[], int] = lambda: 0,
) -> Session:  # fmt: skip
    binding = Binding("fake", 3, SimpleNamespace(), library)
    arguments = fuse_arguments(make_options())
    return Session(binding, arguments, b"/mnt", requests, count_waiting)


def serve_while(session: Session, ask: Callable[[], None]) -> None:
    """Serve until the mount ends, while a thread asks, and then ends it."""
    asking = threading.Thread(target=ask)
    asking.start()
    session.serve(ctypes.c_int())
    asking.join()


@pytest.fixture
def device() -> Iterator[tuple[int, int]]:
    """Return what stands for /dev/fuse where one looks whether a request is there: the descriptor
    of a session, and the one to which a request is written."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_calls_that_block_keep_no_other_call_waiting(requests: CurrentRequests | None) -> None:
    library = FakeLibrary()
    session = make_session(library, requests)
    release, answered = threading.Event(), threading.Event()
    block = session.counted(lambda: 0 if release.wait(PATIENCE_SECONDS) else 1)
    answer = session.counted(lambda: answered.set() or 0)
    was_answered: list[bool] = []

    def ask() -> None:
        for _ in range(20):
            library.requests.put(block)
        library.requests.put(answer)
        was_answered.append(answered.wait(PATIENCE_SECONDS))
        release.set()
        library.is_exited = True

    serve_while(session, ask)
    assert was_answered == [True]
    assert library.is_unmounted


def test_threads_that_were_needed_for_a_while_end_and_none_of_their_requests_is_lost(
    monkeypatch: pytest.MonkeyPatch, requests: CurrentRequests | None,
) -> None:  # fmt: skip
    monkeypatch.setattr(session_module, "_CALM_SECONDS", 0.2)
    monkeypatch.setattr(session_module, "_LONGEST_WAIT_SECONDS", 0.05)
    library = FakeLibrary()
    session = make_session(library, requests)
    release = threading.Event()
    answered: list[int] = []
    block = session.counted(lambda: 0 if release.wait(PATIENCE_SECONDS) else 1)
    answer = session.counted(lambda: answered.append(0) or 0)
    peaks: list[int] = []
    rests: list[int] = []

    def count() -> int:
        return sum(each.name == "h5fs-fuse" for each in threading.enumerate())

    def wait_until(claim: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not claim() and time.monotonic() < end:
            time.sleep(0.01)

    def ask() -> None:
        try:
            for _ in range(3):
                for _ in range(20):
                    library.requests.put(block)
                wait_until(lambda: library.requests.empty() and count() > 8)
                peaks.append(count())
                release.set()
                for _ in range(1000):
                    library.requests.put(answer)
                wait_until(lambda: count() <= 4)
                rests.append(count())
                release.clear()
        finally:
            library.is_exited = True

    serve_while(session, ask)
    assert len(answered) == 3000
    assert all(each > 8 for each in peaks) and all(2 <= each <= 4 for each in rests)


def test_calls_that_end_start_no_threads(requests: CurrentRequests | None) -> None:
    library = FakeLibrary()
    session = make_session(library, requests)
    seen: set[int] = set()
    call = session.counted(lambda: seen.add(threading.get_ident()) or 0)

    def ask() -> None:
        for _ in range(20_000):
            library.requests.put(call)
        while not library.requests.empty():
            threading.Event().wait(0.01)
        library.is_exited = True

    serve_while(session, ask)
    assert 1 <= len(seen) <= 8


def test_in_a_mode_that_writes_one_thread_answers_one_request_after_another() -> None:
    library = FakeLibrary()
    session = make_session(library, CurrentRequests())
    seen: set[int] = set()
    answered = threading.Semaphore(0)

    def answer() -> int:
        seen.add(threading.get_ident())
        answered.release()
        return 0

    def ask() -> None:
        try:
            for _ in range(500):
                library.requests.put(session.counted(answer))
                assert answered.acquire(timeout=PATIENCE_SECONDS)
        finally:
            library.is_exited = True

    serve_while(session, ask)
    assert len(seen) == 1


def test_calls_one_after_another_do_not_wake_the_main_thread_each_time() -> None:
    library = FakeLibrary()
    session = make_session(library, CurrentRequests())
    answered = threading.Semaphore(0)
    told: list[object] = []

    class Events(queue.SimpleQueue[Any]):
        def put(self, item: object, *arguments: Any) -> None:
            told.append(item)
            super().put(item, *arguments)

    session._events = Events()

    def ask() -> None:
        try:
            for _ in range(300):
                library.requests.put(session.counted(lambda: answered.release() or 0))
                assert answered.acquire(timeout=PATIENCE_SECONDS)
                time.sleep(0.001)
        finally:
            library.is_exited = True

    serve_while(session, ask)
    assert 0 < len(told) < 50


@pytest.mark.parametrize("is_there", [False, True])
def test_a_call_that_will_wait_lets_another_thread_take_the_request_that_is_there(
    is_there: bool, device: tuple[int, int],
) -> None:  # fmt: skip
    library = FakeLibrary()
    session = make_session(library, CurrentRequests())
    library._descriptor, writing = device
    threads: list[int] = []
    waiting, answered = threading.Event(), threading.Event()

    def wait_for_the_store() -> int:
        session.let_another_receive()
        waiting.set()
        # In the end a thread would be started that makes up for one that is blocked.
        answered.wait(PATIENCE_SECONDS if is_there else 0)
        threads.append(threading.get_ident())
        return 0

    def answer() -> int:
        threads.append(threading.get_ident())
        answered.set()
        return 0

    def ask() -> None:
        try:
            if is_there:
                os.write(writing, b"request")
            library.requests.put(session.counted(wait_for_the_store))
            assert waiting.wait(PATIENCE_SECONDS)
            library.requests.put(session.counted(answer))
            wait_until(lambda: len(threads) == 2)
        finally:
            library.is_exited = True

    serve_while(session, ask)
    assert (threads[0] != threads[1]) == is_there


@pytest.mark.parametrize("blocked_count", [1, 20])
def test_no_request_waits_for_threads_that_are_blocked_outside_of_calls(blocked_count: int) -> None:
    """As libfuse's own locks do, in modes that write: one thread, or all that there are."""
    library = FakeLibrary()
    session = make_session(library, CurrentRequests())
    answered = threading.Event()
    was_answered: list[bool] = []

    def wait_in_libfuse() -> int:
        was_answered.append(answered.wait(PATIENCE_SECONDS))
        return 0

    def ask() -> None:
        try:
            for _ in range(blocked_count):
                library.requests.put(wait_in_libfuse)
            library.requests.put(session.counted(lambda: answered.set() or 0))
            wait_until(lambda: len(was_answered) == blocked_count)
        finally:
            library.is_exited = True

    serve_while(session, ask)
    assert was_answered == [True] * blocked_count


def test_for_threads_that_wait_for_a_worker_there_are_others() -> None:
    library = FakeLibrary()
    session = make_session(library, count_waiting=lambda: 3)
    seen: set[int] = set()

    def answer() -> int:
        seen.add(threading.get_ident())
        time.sleep(0.001)
        return 0

    call = session.counted(answer)

    def ask() -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while len(seen) < session._usual_count + 3 and time.monotonic() < end:
            for _ in range(100):
                library.requests.put(call)
            time.sleep(0.01)
        library.is_exited = True

    serve_while(session, ask)
    assert len(seen) >= session._usual_count + 3


def test_a_mount_that_libfuse_refuses_starts_nothing() -> None:
    with pytest.raises(MountRefusedError):
        make_session(FakeLibrary(mounts=False)).serve(ctypes.c_int())


def test_the_room_is_imported_as_before() -> None:
    room = importlib.import_module("h5fs.fuse")
    assert " over libfuse " in room.describe_binding()
    assert callable(room.serve) and callable(room.fuse_arguments)

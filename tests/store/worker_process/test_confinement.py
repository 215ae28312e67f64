"""What a confined process can no longer do, and what it still can; each in a forked process.

Where the system lacks a protection its tests are skipped, saying why; in CI they fail instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import importlib
import mmap
import os
import pickle
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from h5fs.store.worker_process import confinement, landlock, seccomp
from h5fs.store.worker_process.confinement import Confinement, Protection, confine, die_with_parent

IN_CI = os.environ.get("CI") == "true"
GIB = 1 << 30
DATA = np.arange(60_000, dtype="<i4").reshape(300, 200)

ALONE = ["both", "landlock", "seccomp"]


def confined(
    action: Callable[[], Any],
    *,
    readable: tuple[Path, ...] | None = (),
    memory_bytes: int = GIB,
    settings: Confinement | None = None,
    by: str = "both",
    before: Callable[[], None] = lambda: None,
) -> tuple[tuple[str, ...], Any]:
    """Confine a forked process, run ``action`` there; return the missing lines and the result.

    An exception is a result, too. ``by`` names the mechanism that the process is left with.
    """
    ends = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _take_away(by)
            before()
            missing = confine(settings or Confinement(readable, memory_bytes))
            try:
                result = action()
            except Exception as error:
                result = error
            os.write(ends[1], _pickle(missing, result))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(ends[1])
    with open(ends[0], "rb") as pipe:
        answer = pipe.read()
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"the process ended with {os.waitstatus_to_exitcode(status)}"
    missing, result = pickle.loads(answer)
    return missing, result


def _take_away(by: str) -> None:
    if by in ("landlock", "nothing"):
        confinement._find_libseccomp = lambda: "taken away by the test"
    if by in ("seccomp", "nothing"):

        def fail() -> int:
            raise OSError("taken away by the test")

        landlock.abi_version = fail


def _pickle(missing: tuple[str, ...], result: Any) -> bytes:
    try:
        return pickle.dumps((missing, result))
    except TypeError:
        return pickle.dumps((missing, repr(result)))


@pytest.fixture(autouse=True, scope="module")
def _prepared() -> None:
    confinement.prepare()


def need(missing: tuple[str, ...], protection: Protection, by: str = "both") -> None:
    """Go on only where the system has this protection."""
    lines = [line for line in missing if line.startswith(protection.value)]
    if not lines:
        return
    if IN_CI:
        pytest.fail(f"in CI every protection must be there ({by}): {lines[0]}")
    pytest.skip(lines[0])


def _refused(result: Any) -> bool:
    return isinstance(result, OSError) and result.errno in (errno.EPERM, errno.EACCES)


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    """A folder that a worker may read."""
    folder = tmp_path / "allowed"
    folder.mkdir()
    return folder


@pytest.fixture
def forbidden(tmp_path: Path) -> Path:
    """A file that it may not read, beside the folder."""
    path = tmp_path / "forbidden.h5"
    with h5py.File(path, "w") as file:
        file["d"] = DATA
    return path


# --- What still works ---


def _write_file(folder: Path) -> Path:
    path = folder / "file.h5"
    filters = {
        "blosc": hdf5plugin.Blosc(),
        "blosc2": hdf5plugin.Blosc2(),
        "bitshuffle": hdf5plugin.Bitshuffle(),
        "lz4": hdf5plugin.LZ4(),
        "zstd": hdf5plugin.Zstd(),
        "gzip": {"compression": "gzip", "shuffle": True},
    }
    with h5py.File(folder / "other.h5", "w") as file:
        file["d"] = DATA
    with h5py.File(path, "w") as file:
        for name, options in filters.items():
            file.create_dataset(name, data=DATA, chunks=(50, 200), **options)
        file["external_link"] = h5py.ExternalLink("other.h5", "/d")
        layout = h5py.VirtualLayout(DATA.shape, DATA.dtype)
        layout[:] = h5py.VirtualSource(folder / "other.h5", "d", DATA.shape)
        file.create_virtual_dataset("virtual", layout)
        raw = [(os.fsencode(folder / "raw.bin"), 0, DATA.nbytes)]
        file.create_dataset("external_storage", data=DATA, external=raw)
        file.attrs["text"] = "ä"
    return path


def _wrong_datasets(path: Path) -> list[str]:
    with h5py.File(path, "r", locking=True) as file:
        assert file.attrs["text"] == "ä"
        return [name for name in file if not np.array_equal(file[name][()], DATA)]


@pytest.mark.parametrize("by", [*ALONE, "nothing"])
def test_a_file_with_filters_virtual_external_and_linked_data_reads(allowed: Path, by: str) -> None:
    path = _write_file(allowed)
    assert confined(lambda: _wrong_datasets(path), readable=(allowed,), by=by)[1] == []


@pytest.mark.semantics("W6")
def test_a_file_that_is_allowed_alone_reads_and_its_links_do_not(allowed: Path) -> None:
    path = _write_file(allowed)

    def read() -> tuple[bool, str]:
        with h5py.File(path, "r") as file:
            try:
                file["external_link"]
            except (KeyError, OSError) as error:
                return np.array_equal(file["zstd"][()], DATA), type(error).__name__
            return False, "the link was followed"

    missing, result = confined(read, readable=(path,))
    need(missing, Protection.READING)
    assert result[0] and result[1] in ("KeyError", "PermissionError", "OSError"), result


def test_the_lock_of_hdf5_holds(allowed: Path) -> None:
    path = _write_file(allowed)

    def lock() -> str:
        try:
            with h5py.File(path, "r", locking=True):
                return "opened"
        except OSError as error:
            return str(error)

    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert confined(lock, readable=(path,))[1] == "opened"
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "unable to lock file" in confined(lock, readable=(path,))[1]


def test_modules_load_late_and_threads_start() -> None:
    def work() -> str:
        assert "colorsys" not in sys.modules and "numpy.polynomial.hermite_e" not in sys.modules
        importlib.import_module("colorsys")
        importlib.import_module("numpy.polynomial.hermite_e")
        seen: list[float] = []
        matrix = np.ones((400, 400))
        thread = threading.Thread(target=lambda: seen.append(float((matrix @ matrix)[0, 0])))
        thread.start()
        thread.join()
        return f"{seen} {len(os.urandom(4))} {time.strftime('%Z') == zone}"

    zone = time.strftime("%Z")
    drop = [name for name in sys.modules if name in ("colorsys", "numpy.polynomial.hermite_e")]

    def forget() -> None:
        for name in drop:
            del sys.modules[name]

    assert confined(work, before=forget)[1] == "[400.0] 4 True"


def test_memory_files_and_unlinked_files_that_arrive_later_can_be_mapped_and_written() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memory = os.memfd_create("test")
    os.ftruncate(memory, 8192)
    with ours, theirs, tempfile.TemporaryFile() as unlinked:
        unlinked.truncate(8192)
        socket.send_fds(ours, [b"x"], [memory, unlinked.fileno()])

        def work() -> int:
            _, descriptors, _, _ = socket.recv_fds(theirs, 1, 2)
            for descriptor in descriptors:
                with mmap.mmap(descriptor, 8192) as view:
                    view[:4] = b"mmap"
                os.pwrite(descriptor, b"pwrite", 4096)
            return theirs.send(b"done")

        assert confined(work)[1] == 4
        assert ours.recv(16) == b"done"
        for descriptor in (memory, unlinked.fileno()):
            assert os.pread(descriptor, 4, 0) + os.pread(descriptor, 6, 4096) == b"mmappwrite"
    os.close(memory)


@pytest.mark.semantics("W6")
def test_nothing_is_missing_where_all_is_there() -> None:
    missing, _ = confined(lambda: None)
    for protection in Protection:
        need(missing, protection)
    assert missing == ()


def test_a_process_that_was_not_prepared_is_confined_all_the_same() -> None:
    def forget() -> None:
        seccomp.find_library.cache_clear()

    confinement._find_libseccomp.cache_clear()
    try:
        assert confined(lambda: None, before=forget)[0] == confined(lambda: None)[0]
    finally:
        confinement.prepare()


# --- What does not ---


@pytest.mark.parametrize("by", ["both", "landlock"])
@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/proc/self/root/etc/passwd", "/proc/1/cmdline", "/etc", "<forbidden>"],
)
def test_other_files_cannot_be_read(path: str, by: str, allowed: Path, forbidden: Path) -> None:
    path = path.replace("<forbidden>", os.fspath(forbidden))
    missing, result = confined(lambda: os.open(path, os.O_RDONLY), readable=(allowed,), by=by)
    need(missing, Protection.READING, by)
    assert _refused(result), result


def test_a_symbolic_link_out_of_an_allowed_folder_leads_nowhere(
    allowed: Path, forbidden: Path
) -> None:
    (allowed / "file.h5").symlink_to(forbidden)
    (allowed / "folder").symlink_to(forbidden.parent)
    with h5py.File(allowed / "linking.h5", "w") as file:
        file["link"] = h5py.ExternalLink("file.h5", "/d")

    def read() -> list[str]:
        came_out = []
        for path in (allowed / "file.h5", allowed / "folder" / forbidden.name):
            with contextlib.suppress(OSError), h5py.File(path, "r"):
                came_out.append(os.fspath(path))
        with contextlib.suppress(KeyError, OSError), h5py.File(allowed / "linking.h5", "r") as file:
            came_out.append(file["link"].name)
        return came_out

    missing, result = confined(read, readable=(allowed,))
    need(missing, Protection.READING)
    assert result == []


def test_everything_is_readable_where_that_is_asked_for(forbidden: Path) -> None:
    missing, result = confined(lambda: _wrong(forbidden), readable=None)
    assert result == []
    assert not any(line.startswith(Protection.READING.value) for line in missing)


def _wrong(path: Path) -> list[str]:
    with h5py.File(path, "r") as file:
        return [name for name in file if not np.array_equal(file[name][()], DATA)]


WAYS_TO_WRITE: dict[str, Callable[[Path], object]] = {
    "create": lambda folder: os.open(folder / "new", os.O_WRONLY | os.O_CREAT),
    "overwrite": lambda folder: os.open(folder / "old", os.O_WRONLY),
    "update": lambda folder: os.open(folder / "old", os.O_RDWR),
    "truncate on open": lambda folder: os.open(folder / "old", os.O_RDONLY | os.O_TRUNC),
    "truncate": lambda folder: os.truncate(folder / "old", 0),
    "temporary file": lambda folder: os.open(folder, os.O_TMPFILE | os.O_RDWR),
    "remove": lambda folder: os.unlink(folder / "old"),
    "rename": lambda folder: os.rename(folder / "old", folder / "new"),
    "link": lambda folder: os.link(folder / "old", folder / "new"),
    "symbolic link": lambda folder: os.symlink("old", folder / "new"),
    "folder": lambda folder: os.mkdir(folder / "new"),
    "fifo": lambda folder: os.mkfifo(folder / "new"),
    "/dev/shm": lambda _: os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR),
    "own memory": lambda _: os.open("/proc/self/mem", os.O_RDWR),
}


@pytest.mark.parametrize("by", ALONE)
@pytest.mark.parametrize("way", WAYS_TO_WRITE)
def test_no_file_can_be_written(way: str, by: str, allowed: Path) -> None:
    (allowed / "old").write_text("old")
    missing, result = confined(lambda: WAYS_TO_WRITE[way](allowed), readable=(allowed,), by=by)
    need(missing, Protection.WRITING, by)
    assert _refused(result), result
    assert [path.name for path in allowed.iterdir()] == ["old"]
    assert (allowed / "old").read_text() == "old"


WAYS_TO_CHANGE_METADATA: dict[str, Callable[[Path], object]] = {
    "mode": lambda path: os.chmod(path, 0o777),
    "owner": lambda path: os.chown(path, os.getuid(), os.getgid()),
    "times": lambda path: os.utime(path, (0, 0)),
    "extended attribute": lambda path: os.setxattr(path, "user.x", b"x"),
}


@pytest.mark.parametrize("way", WAYS_TO_CHANGE_METADATA)
def test_no_metadata_can_be_changed(way: str, allowed: Path) -> None:
    path = allowed / "old"
    path.touch()
    missing, result = confined(lambda: WAYS_TO_CHANGE_METADATA[way](path), readable=(allowed,))
    need(missing, Protection.METADATA)
    assert _refused(result), result


@pytest.mark.parametrize("by", ALONE)
def test_no_program_can_be_started(by: str) -> None:
    def execute() -> None:
        os.execv(sys.executable, [sys.executable, "-c", ""])

    # Asked first: where nothing refuses the call, the process is gone and answers no more.
    need(confined(lambda: None, by=by)[0], Protection.PROGRAMS, by)
    _, result = confined(execute, by=by)
    assert _refused(result), result


def test_no_process_can_be_started() -> None:
    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    for action in (fork, lambda: subprocess.run(["true"], check=True)):
        missing, result = confined(action)
        need(missing, Protection.KERNEL)
        assert _refused(result), result


@pytest.mark.parametrize("by", ALONE)
def test_no_tcp_connection_can_be_made(by: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        missing, result = confined(lambda: socket.create_connection(server.getsockname()), by=by)
        need(missing, Protection.TCP, by)
        assert _refused(result), result

        missing, result = confined(lambda: socket.create_server(("127.0.0.1", 0)), by=by)
        assert _refused(result), result


def test_no_socket_can_be_made_or_redirected() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        ways: list[Callable[[], object]] = [
            lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
            socket.socketpair,
            lambda: theirs.connect("\0somewhere"),
        ]
        for way in ways:
            missing, result = confined(way)
            need(missing, Protection.SOCKETS)
            assert _refused(result), result


@pytest.mark.parametrize("by", ALONE)
def test_no_other_process_can_be_signalled(by: str) -> None:
    missing, result = confined(lambda: os.kill(os.getppid(), 0), by=by)
    need(missing, Protection.SIGNALS, by)
    assert _refused(result), result


def test_a_process_can_still_signal_itself() -> None:
    def signal_self() -> list[int]:
        seen: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        return seen

    assert confined(signal_self)[1] == [signal.SIGUSR1] * 2


def _libc(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc[name](*map(ctypes.c_ulong, arguments)) == -1:
        raise OSError(ctypes.get_errno(), name)


_NO_LIMIT = (ctypes.c_ulong * 2)(ctypes.c_ulong(-1).value, ctypes.c_ulong(-1).value)
WAYS_TO_UNDO: dict[str, Callable[[], object]] = {
    "limit": lambda: _libc("setrlimit", resource.RLIMIT_AS, ctypes.addressof(_NO_LIMIT)),
    "death with the parent": lambda: _libc("prctl", 1, 0, 0, 0, 0),
    "dumpable": lambda: _libc("prctl", 4, 1, 0, 0, 0),
    "namespace": lambda: _libc("unshare", 0x10000000),
    "ptrace": lambda: _libc("ptrace", 0, 0, 0, 0),
    "pidfd": lambda: os.pidfd_open(os.getppid()),
    "io_uring": lambda: _libc("syscall", 425, 1, 0),
}


@pytest.mark.parametrize("way", WAYS_TO_UNDO)
def test_what_is_set_stays_set(way: str) -> None:
    missing, result = confined(WAYS_TO_UNDO[way])
    need(missing, Protection.KERNEL)
    assert _refused(result), result


_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}.get(os.uname().machine, 289)
WAYS_TO_HOLD_UP_OTHERS: dict[str, Callable[[int], object]] = {
    "exclusive lock": lambda file: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "record lock": lambda file: fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB),
    "lease": lambda file: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK),
    "processors": lambda _: os.sched_setaffinity(os.getppid(), {0}),
    "real time": lambda _: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "priority": lambda _: os.setpriority(os.PRIO_PROCESS, os.getppid(), 1),
    "input and output": lambda _: _libc("syscall", _IOPRIO_SET, 1, os.getppid(), 3 << 13),
}


@pytest.mark.semantics("W6")
@pytest.mark.parametrize("way", WAYS_TO_HOLD_UP_OTHERS)
def test_other_programs_cannot_be_held_up(way: str, forbidden: Path) -> None:
    descriptor = os.open(forbidden, os.O_RDONLY)
    try:
        missing, result = confined(lambda: WAYS_TO_HOLD_UP_OTHERS[way](descriptor))
    finally:
        os.close(descriptor)
    need(missing, Protection.KERNEL)
    assert _refused(result), result


WAYS_TO_LET_A_LOCK_GO: dict[str, Callable[[int], object]] = {
    "unlocked": lambda file: fcntl.flock(file, fcntl.LOCK_UN),
    "shared": lambda file: fcntl.flock(file, fcntl.LOCK_SH),
    "dup": lambda file: fcntl.flock(os.dup(file), fcntl.LOCK_UN),
    "dup2": lambda file: fcntl.flock(os.dup2(file, 200), fcntl.LOCK_UN),
    "fcntl": lambda file: fcntl.flock(fcntl.fcntl(file, fcntl.F_DUPFD, 9), fcntl.LOCK_UN),
    "own lock": lambda file: fcntl.fcntl(
        file, fcntl.F_OFD_SETLK, struct.pack("@hhqqi4x", fcntl.F_UNLCK, 0, 2**62, 1, 0)
    ),
}


@pytest.mark.semantics("W6", "U6")
@pytest.mark.parametrize("way", WAYS_TO_LET_A_LOCK_GO)
def test_a_lock_that_is_shared_with_the_daemon_cannot_be_let_go(way: str, forbidden: Path) -> None:
    with forbidden.open("r+b") as file, forbidden.open("rb") as other:
        fcntl.flock(file, fcntl.LOCK_EX)
        missing, result = confined(
            lambda: WAYS_TO_LET_A_LOCK_GO[way](file.fileno()),
            settings=Confinement((), GIB, locked=(file.fileno(),)),
        )
        need(missing, Protection.KERNEL)
        assert _refused(result), result
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)


# --- Open files, and what root may do ---


def _read_anew(descriptor: int) -> bytes:
    with open(f"/proc/self/fd/{descriptor}", "rb") as file:
        return file.read(4)


@pytest.mark.parametrize("fate", ["stays", "removed", "replaced"])
def test_an_open_file_can_be_opened_anew_whatever_became_of_its_path(
    fate: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"this")
    descriptor = os.open(path, os.O_RDONLY)
    if fate != "stays":
        path.unlink()
    if fate == "replaced":
        path.write_bytes(b"that")
    given = Confinement((), GIB, descriptors=(descriptor,))
    assert confined(lambda: _read_anew(descriptor), settings=given)[1] == b"this"
    if fate == "replaced":
        missing, result = confined(path.read_bytes, settings=given)
        need(missing, Protection.READING)
        assert _refused(result), result


@pytest.mark.semantics("W6")
def test_nothing_below_proc_can_be_looked_at() -> None:
    for path in ("/proc/self/status", "/proc/self/maps", "/proc/self/task", "/proc/meminfo"):
        missing, result = confined(lambda p=path: os.open(p, os.O_RDONLY))
        need(missing, Protection.READING)
        assert _refused(result), (path, result)


@pytest.mark.semantics("W6")
@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_root_is_a_user_like_others_there(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"text")
    os.chown(secret, 65534, 65534)
    secret.chmod(0o600)
    descriptor = os.open(secret, os.O_RDONLY)

    def look() -> tuple[str, Any]:
        caps = _capabilities()
        try:
            return caps, secret.read_bytes()
        except OSError as error:
            return caps, error

    missing, (caps, result) = confined(look, settings=Confinement(None, GIB))
    need(missing, Protection.CAPABILITIES)
    assert caps == "0"
    assert _refused(result), result
    # What is given may be opened anew, though it is another user's.
    given = Confinement((), GIB, descriptors=(descriptor,))
    missing, result = confined(lambda: (_capabilities(), _read_anew(descriptor)), settings=given)
    assert result == (f"{1 << 2:x}", b"text")


def _capabilities() -> str:
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capget(header, sets) == 0
    return f"{sets[0] | sets[1] | sets[2] | sets[3] << 32 | sets[4] << 32 | sets[5] << 32:x}"


# --- Limits, and the end ---


def test_memory_beyond_the_limit_is_a_memory_error() -> None:
    def allocate() -> str:
        assert len(bytearray(100 << 20)) == 100 << 20
        try:
            np.zeros(GIB)
        except MemoryError:
            return "MemoryError"
        return "allocated"

    missing, result = confined(allocate, memory_bytes=256 << 20)
    need(missing, Protection.MEMORY)
    assert result == "MemoryError"


def test_no_core_is_dumped() -> None:
    missing, result = confined(
        lambda: (resource.getrlimit(resource.RLIMIT_CORE), _libc("prctl", 3, 0, 0, 0, 0))
    )
    need(missing, Protection.CORE)
    assert result == ((0, 0), None)


@pytest.mark.parametrize("way", ["confine", "die_with_parent"])
def test_a_process_dies_with_its_parent(way: str) -> None:
    ends = os.pipe()  # its writing end is open as long as the process lives
    parent = os.fork()
    if parent == 0:
        parent_pid = os.getpid()
        if os.fork() == 0:
            if way == "confine":
                confine(Confinement((), GIB))
            else:
                die_with_parent(parent_pid)
            os.write(ends[1], b"alive")
        while True:
            time.sleep(60)
    os.close(ends[1])
    with open(ends[0], "rb", buffering=0) as pipe:
        assert pipe.read(5) == b"alive"
        assert select.select([pipe], [], [], 0.2)[0] == []
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        assert select.select([pipe], [], [], 10)[0], "the process outlives its parent"
        assert pipe.read(5) == b""


def test_a_process_whose_parent_is_gone_already_dies_at_once() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent(os.getppid() + 1)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


# --- What is missing is said ---


def test_without_any_mechanism_each_protection_that_needs_one_is_named() -> None:
    missing, result = confined(lambda: os.access("/etc/passwd", os.R_OK), by="nothing")
    assert result is True
    assert [line.partition(": ")[0] for line in missing] == [
        protection.value
        for protection in Protection
        if protection in confinement._BY_LANDLOCK | confinement._BY_SECCOMP
    ]


def test_an_old_landlock_says_what_it_cannot_do() -> None:
    def make_old() -> None:
        landlock.abi_version = lambda: 1

    missing, result = confined(
        lambda: os.open("/etc/passwd", os.O_RDONLY), by="landlock", before=make_old
    )
    need(missing, Protection.READING, "landlock")
    assert _refused(result), result
    said = {line.partition(": ")[0] for line in missing}
    assert {Protection.WRITING.value, Protection.TCP.value, Protection.SIGNALS.value} <= said
    assert Protection.PROGRAMS.value not in said


def test_threads_that_were_there_before_are_named() -> None:
    release = threading.Event()

    def start() -> None:
        threading.Thread(target=release.wait, daemon=True).start()

    missing, _ = confined(lambda: None, before=start)
    assert any("1 threads" in line for line in missing), missing

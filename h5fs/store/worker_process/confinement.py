"""What a worker gives up before it opens a file: memory, other files, the network, programs.

Owns the calls that confine the calling process; none can be taken back. Opens no HDF5 file. The
process must have only one thread: Landlock and seccomp bind the thread that calls them, and the
threads that it starts afterwards.

Most protections rest on two mechanisms, so that one is enough where a kernel or an installation
lacks the other: Landlock (kernel 5.13; which files, by path), and seccomp (which system calls, with
which flags), which needs the system's libseccomp.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Final

from msgspec import Struct

from h5fs.store.worker_process import landlock
from h5fs.store.worker_process.capabilities import drop_capabilities
from h5fs.store.worker_process.forbidden_calls import (
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    compiled_rules,
    refuse_system_calls,
)
from h5fs.store.worker_process.libraries import files_of_libraries, libraries_in
from h5fs.store.worker_process.seccomp import find_library


class Confinement(Struct, frozen=True):
    """What a worker may still do.

    ``readable``: the files, and the folders with everything below, that it may read: the HDF5 file,
    and what the policy on external files allows; None: everything that the user may read.
    ``descriptors``: open files that it may open again (``/proc/self/fd/N``), whatever has become of
    their paths; they stay open. ``memory_bytes``: how much more address space it may take. Every
    mapping counts, also shared memory and the stacks of threads. ``locked``: open files that it
    shares with another process, whose locks it must not change.
    """

    readable: tuple[Path, ...] | None
    memory_bytes: int
    descriptors: tuple[int, ...] = ()
    locked: tuple[int, ...] = ()


class Protection(Enum):
    """What `confine` protects from; the value begins the message about a missing protection."""

    MEMORY = "limit on memory"
    CORE = "no core dumps"
    PARENT = "death with the parent process"
    CAPABILITIES = "no capabilities of root"
    PRIVILEGES = "no new privileges"
    INSPECTION = "memory hidden from other processes"
    READING = "no reading of other files"
    WRITING = "no writing of files"
    METADATA = "no change of modes, owners, times and extended attributes of files"
    PROGRAMS = "no other programs"
    TCP = "no TCP connections"
    SOCKETS = "no new sockets"
    SIGNALS = "no signals to other processes"
    KERNEL = "no system calls that a worker has no use for"


class _MissingError(Exception):
    """A mechanism is missing; the text says why."""


_BY_LANDLOCK: Final = frozenset({Protection.READING, Protection.WRITING, Protection.PROGRAMS,
                                 Protection.TCP, Protection.SIGNALS})  # fmt: skip
_BY_SECCOMP: Final = frozenset({Protection.WRITING, Protection.METADATA, Protection.PROGRAMS,
                                Protection.TCP, Protection.SOCKETS, Protection.SIGNALS,
                                Protection.KERNEL})  # fmt: skip


def prepare() -> None:
    """Do once what `confine` would otherwise do in each process forked from this one.

    Rules of seccomp and a list of paths take a few milliseconds, most of it for pages of memory
    that no longer are the parent's.
    """
    if not _find_libseccomp():
        # What it lacks is told by each process that is confined.
        with suppress(AttributeError, OSError):
            compiled_rules()
    _program_paths()


def confine(settings: Confinement) -> tuple[str, ...]:
    """Give up, for good, the rights that a worker has no use for.

    Returns one line for each protection that the system lacks or refused; never raises for one.
    """
    _find_libseccomp()  # afterwards it would be too late
    # Counted before Landlock: the kernel drops inodes of /proc and makes new ones as it likes, and
    # a rule is tied to an inode. Nothing can be read there once the process is confined.
    others = len(os.listdir("/proc/self/task")) - 1
    reached: set[Protection] = set()
    reasons: dict[Protection, list[str]] = {}
    for step, aims in _steps(settings):
        reason = "this kernel is too old"
        try:
            reached |= step()
        # Any exception of a package or the kernel: a worker with less confinement, and a line in
        # the log about it, are better than no worker.
        except Exception as error:
            reason = str(error) or type(error).__name__
        for aim in aims - reached:
            reasons.setdefault(aim, []).append(reason)
    if settings.readable is None:
        reasons.pop(Protection.READING, None)
    lines = [
        f"{aim.value}: {'; '.join(dict.fromkeys(reasons[aim]))}"
        for aim in Protection
        if aim in reasons and aim not in reached
    ]
    if others:
        lines.append(f"{others} threads were started before the process was confined: they are not")
    return tuple(lines)


def die_with_parent(parent_pid: int) -> None:
    """Let the kernel kill this process when the thread that forked it ends.

    ``parent_pid``: the parent's own id, which it learnt *before* it forked; if the parent is gone
    by now, this process dies at once. Raises ``OSError`` if the kernel refuses.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def _steps(
    settings: Confinement,
) -> Iterator[tuple[Callable[[], set[Protection]], frozenset[Protection]]]:
    yield lambda: _limit_memory(settings.memory_bytes), frozenset({Protection.MEMORY})
    yield _forbid_core_dumps, frozenset({Protection.CORE})
    yield _die_with_present_parent, frozenset({Protection.PARENT})
    descriptors = settings.descriptors
    yield lambda: _drop_capabilities(descriptors), frozenset({Protection.CAPABILITIES})
    yield _forbid_privileges, frozenset({Protection.PRIVILEGES})
    yield _forbid_inspection, frozenset({Protection.INSPECTION})
    yield lambda: _apply_landlock(settings.readable, descriptors), _BY_LANDLOCK
    # The last: it forbids some of the calls above.
    yield lambda: _apply_seccomp(settings.locked), _BY_SECCOMP


@functools.cache
def _find_libseccomp() -> str:
    """Return why the library cannot be had; "" where it is loaded. A failure is not tried again."""
    try:
        find_library()
    except (OSError, AttributeError):
        return "the library libseccomp is missing or too old"
    return ""


# --- Limits and prctl(2) ---

_PR_SET_NO_NEW_PRIVS: Final = 38


def _limit_memory(memory_bytes: int) -> set[Protection]:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return {Protection.MEMORY}


def _forbid_core_dumps() -> set[Protection]:
    # Where dumps are piped to a program, the kernel ignores this limit, but not PR_SET_DUMPABLE.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return {Protection.CORE}


def _die_with_present_parent() -> set[Protection]:
    die_with_parent(os.getppid())
    return {Protection.PARENT}


def _forbid_privileges() -> set[Protection]:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return {Protection.PRIVILEGES}


def _drop_capabilities(descriptors: Iterable[int]) -> set[Protection]:
    drop_capabilities(descriptors)
    return {Protection.CAPABILITIES}


def _forbid_inspection() -> set[Protection]:
    """Forbid ptrace and core dumps, whatever the limit says.

    Files in ``/proc/<pid>`` then belong to root. The process itself can still read its own, except
    ``/proc/self/mem``; other processes can still read ``status``, ``stat`` and ``statm``.
    """
    _prctl(PR_SET_DUMPABLE, 0)
    return {Protection.INSPECTION}


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(argument) for argument in (value, 0, 0, 0)]
    if libc.prctl(ctypes.c_int(option), *arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


# --- Landlock ---

# Nothing in these is secret. Libraries load others when first needed (libgcc_s when a thread
# ends), times in the log need the time zone, thread pools ask for the number of processors.
_SYSTEM_PATHS: Final = tuple(
    map(
        Path,
        "/lib /lib64 /usr/lib /usr/lib64 /usr/local/lib /etc/ld.so.cache "
        "/etc/localtime /usr/share/zoneinfo /dev/null /dev/urandom "
        "/sys/devices/system/cpu".split(),
    )
)


_LATE_PACKAGES: Final = ("hdf5plugin", "deflate", "imagecodecs")


def _apply_landlock(
    readable: tuple[Path, ...] | None, descriptors: Iterable[int]
) -> set[Protection]:
    """Allow reading these files and the files that programs need; forbid all other access."""
    try:
        version = landlock.abi_version()
    except OSError:
        raise _MissingError("Landlock is not in this kernel, or is switched off") from None
    ruleset = landlock.create_ruleset(version)
    try:
        for path in (Path("/"),) if readable is None else (*readable, *_program_paths()):
            _allow_reading_at(ruleset, path)
        for descriptor in descriptors:
            landlock.allow_reading(ruleset, descriptor)
        landlock.restrict_self(ruleset)
    finally:
        os.close(ruleset)
    since = {Protection.WRITING: 3, Protection.TCP: 4, Protection.SIGNALS: 6}
    return {aim for aim in _BY_LANDLOCK if version >= since.get(aim, 1)}


def _allow_reading_at(ruleset: int, path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # the file is missing or out of reach: nothing to allow
    try:
        landlock.allow_reading(ruleset, descriptor)
    finally:
        os.close(descriptor)


@functools.cache
def _program_paths() -> tuple[Path, ...]:
    """Return the files and folders that Python, its packages and HDF5's plugins are read from.

    The folders of ``sys.path`` are not taken: one may be the user's own folder, with any files.
    """
    packages = [
        folder
        for name, module in list(sys.modules.items())
        if "." not in name
        for folder in _folders_of(module)
    ]
    packages += _folders_of_late_packages()
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    folders = (*_interpreter_folders(), *packages, *libraries, *_plugin_folders())
    absolute = (Path(folder) for folder in folders if os.path.isabs(folder))
    return tuple(dict.fromkeys((*_SYSTEM_PATHS, *absolute, *_plugin_libraries())))


@functools.cache
def _interpreter_folders() -> tuple[str, ...]:
    schemes = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    prefixes = (os.path.join(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix))
    return (*schemes, *prefixes)


def _folders_of(module: ModuleType | None) -> list[str]:
    # Not by getattr: some modules in sys.modules import others on any attribute access.
    path = getattr(module, "__dict__", {}).get("__path__", ())
    return [folder for folder in path if isinstance(folder, str)]


@functools.cache
def _folders_of_late_packages() -> tuple[str, ...]:
    """Return the folders of packages that a worker may import when a file needs them."""
    found = (importlib.util.find_spec(name) for name in _LATE_PACKAGES if name not in sys.modules)
    folders = [
        folder for spec in found if spec is not None
        for folder in spec.submodule_search_locations or ()
    ]  # fmt: skip
    return (*folders, *(f"{folder}.libs" for folder in folders))  # of shared libraries


def _plugin_folders() -> list[str]:
    if "h5py" not in sys.modules:
        return []
    h5pl = importlib.import_module("h5py.h5pl")
    return [os.fsdecode(h5pl.get(index)) for index in range(h5pl.size())]


@functools.cache
def _plugin_libraries() -> frozenset[Path]:
    """Return the real paths of plugins, which are often links, and of the libraries they need."""
    plugins = [each for folder in _plugin_folders() for each in libraries_in(Path(folder))]
    return frozenset(files_of_libraries(plugins))


def _apply_seccomp(locked: Iterable[int]) -> set[Protection]:
    problem = _find_libseccomp()
    if problem:
        raise _MissingError(problem)
    refuse_system_calls(locked)
    return set(_BY_SECCOMP)

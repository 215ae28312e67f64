"""An HDF5 file and its redo log, opened together: locked, recovered, closed.

`format` says what is in a log, and which commits count; `log_on_disk` says which file is a log.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from h5fs.errors import CannotOpenError
from h5fs.model.settings import Locking, Mode
from h5fs.store.file_checks import check_openable, explain_lock, locks_apply
from h5fs.store.locks.own_lock import take_own_lock
from h5fs.store.log.log_on_disk import is_at, make_free, open_log, remove_log
from h5fs.store.log.log_path import find_log
from h5fs.store.log.logged_file import LoggedFile
from h5fs.store.log.main_witness import make_record
from h5fs.store.log.recovery import LogDescription, describe_log, recover
from h5fs.store.log.system_calls import LogFile, RealFile, WatchedFile
from h5fs.system.system_errors import advise

_log = logging.getLogger(__name__)

_CREATING = (Mode.APPEND, Mode.CREATE, Mode.EXCLUSIVE)
_MOST_TRIES = 100
_COPY_BYTES = 2**20
_ASIDE_SUFFIX = "-aside"
_REPLACED_SUFFIX = ".h5fs-replaced"


def read_boot_id() -> bytes:
    """Return this kernel's boot id: its page cache has all that was written since it booted."""
    return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()


@dataclass(frozen=True, slots=True)
class FileAndLog:
    """The descriptors of an HDF5 file and of its log, locked while they are open.

    ``record``: a memory file with what is remembered of the HDF5 file (`main_witness`). ``path``:
    the HDF5 file's real path. ``problem``: a line about damage in the log, or an empty text.
    ``is_new``: the HDF5 file was made just now.
    """

    main: int
    log: int
    record: int
    path: Path
    log_path: Path
    writes: bool
    problem: str = ""
    is_new: bool = False

    def descriptors(self) -> tuple[int, int, int]:
        """Return the descriptors that a worker gets."""
        return self.main, self.log, self.record

    def keep_log_aside(self) -> Path:
        """Copy the log to a name of its own, and return that. Raises ``OSError``."""
        aside = self.log_path.with_name(self.log_path.name + _ASIDE_SUFFIX)
        return _write_free(aside, self.main, lambda at, size: os.pread(self.log, size, at))

    def save_content(self, boot_id: bytes) -> Path:
        """Write the file as of its last commit to a name of its own, and return that.

        For a file that no name leads to any more. Raises ``OSError``.
        """
        file = LoggedFile(RealFile(self.main), RealFile(self.log), boot_id=boot_id)
        file.open()
        kept = self.path.with_name(self.path.name + _REPLACED_SUFFIX)
        return _write_free(kept, self.main, file.read_at)

    def close(self, *, removes_log: bool) -> None:
        """Close both; ``removes_log``: everything in it is in the file, or elsewhere."""
        if self.writes and (removes_log or not os.fstat(self.log).st_size):
            if self.is_new and not os.fstat(self.main).st_size:  # it was to be filled, and was not
                remove_log(self.path, self.main)
            remove_log(self.log_path, self.log)
            _sync_folder(self.path)
        for descriptor in (self.log, self.main, self.record):
            os.close(descriptor)


def open_logged(
    file: Path,
    mode: Mode,
    locking: Locking,
    boot_id: bytes,
    *,
    checks: bool = True,
    may_have_links: bool = False,
    on_write: Callable[[int], object] = lambda _count: None,
) -> FileAndLog | None:
    """Open an HDF5 file and its log as a mode asks for; in a mode that writes, recover the log.

    None when there is no log to read. ``checks``: a file that HDF5 would not open is refused.
    ``may_have_links``: a file with several hard links is opened to write, too. ``on_write`` is told
    how many bytes recovery has written. Raises ``CannotOpenError``.
    """
    try:
        with ExitStack() as opened:
            files = _open_both(opened, file, mode, locking, may_have_links=may_have_links)
            if files is None:
                return None
            files = _prepare(files, mode, boot_id, on_write)
            if mode.writes and checks and (os.fstat(files.main).st_size or mode is Mode.UPDATE):
                check_openable(file, Locking.FALSE)  # the lock is ours
            opened.pop_all()  # what was opened is the caller's to close
    except OSError as error:
        raise CannotOpenError(
            f"{file} or its log cannot be read or written: {error.strerror}{advise(error)}"
        ) from None
    return files


def _open_both(
    opened: ExitStack, file: Path, mode: Mode, locking: Locking, *, may_have_links: bool
) -> FileAndLog | None:
    real = Path(os.path.realpath(file))
    main, is_new = _open_main(file, real, mode)
    opened.callback(os.close, main)
    if is_new:
        opened.callback(remove_log, real, main)  # that is: unless another stands there
    _lock(main, file, mode, locking)
    links = os.fstat(main).st_nlink
    if mode.writes and links > 1 and not may_have_links:
        raise CannotOpenError(
            f"{file} has {links} names (hard links), and a log is found under one of them only: "
            f"give the mount a copy with one name (cp {file} {file}.copy), or mount with --mode r"
        )
    path = find_log(real)
    log = _open_log(path, file, main, mode)
    if log is None:
        return None
    opened.callback(os.close, log)
    if mode.writes:
        opened.callback(_remove_if_empty, path, log)
        _sync_folder(path)
    record = make_record()
    opened.callback(os.close, record)
    return FileAndLog(main, log, record, real, path, mode.writes, is_new=is_new)


def _prepare(
    files: FileAndLog, mode: Mode, boot_id: bytes, on_write: Callable[[int], object]
) -> FileAndLog:
    if mode in (Mode.CREATE, Mode.EXCLUSIVE):
        # The log is emptied first: left behind, it would be brought into a file not its own.
        os.ftruncate(files.log, 0)
        os.ftruncate(files.main, 0)
    found = describe_log(RealFile(files.main), RealFile(files.log), boot_id)
    if found.mismatch:
        raise CannotOpenError(f"{files.log_path}: {found.mismatch}")
    problem = explain_damage(files.log_path, found)
    if mode.writes and problem:
        problem += f"; the log is kept as {files.keep_log_aside()}"
    if problem:
        _log.warning("%s", problem)
    if mode.writes:
        recover(WatchedFile(files.main, on_write), LogFile(files.log), boot_id)
        LogFile(files.log).reserve()
    return dataclasses.replace(files, problem=problem)


def explain_damage(path: Path, found: LogDescription) -> str:
    """Return a line about damage to a log; empty when there is none, or what a crash leaves."""
    rest = found.rest
    if not rest.is_damage:
        return ""
    whole = "no later commit is whole"
    if rest.commits:
        are = "commit is" if rest.commits == 1 else "commits are"
        whole = f"{rest.commits} later {are} whole, and lost"
    return (
        f"{path} is damaged at byte {rest.start}: the {rest.size_bytes} bytes from there on do not "
        f"count ({whole}); the file is as of commit {found.commits} of the log"
    )


def _write_free(path: Path, main: int, read: Callable[[int, int], bytes]) -> Path:
    """Write all that ``read(offset, size)`` gives to ``path``, or a free name like it; return that.

    Waits until it is on the disk. Raises ``OSError``.
    """
    copy, free = make_free(path, main)
    try:
        at = 0
        while data := read(at, _COPY_BYTES):
            at += os.pwrite(copy, data, at)
        os.fsync(copy)
    except OSError:
        free.unlink(missing_ok=True)
        raise
    finally:
        os.close(copy)
    _sync_folder(path)
    return free


def _remove_if_empty(path: Path, log: int) -> None:
    if not os.fstat(log).st_size:
        remove_log(path, log)


def _open_main(file: Path, real: Path, mode: Mode) -> tuple[int, bool]:
    """Open the HDF5 file with h5fs's lock on it; tell whether it was made just now."""
    for _ in range(_MOST_TRIES):
        try:
            main, is_new = _open_or_make(real, mode)
        except OSError as error:
            raise CannotOpenError(f"{file}: {error.strerror}{advise(error)}") from None
        try:
            take_own_lock(main, file, writes=mode.writes)
            if is_at(real, main):
                return main, is_new
        except BaseException:
            os.close(main)
            raise
        os.close(main)  # another stands there now
    raise CannotOpenError(f"{file} is replaced again and again: end the program that does it")


def _open_or_make(real: Path, mode: Mode) -> tuple[int, bool]:
    flags = os.O_CLOEXEC | (os.O_RDWR if mode.writes else os.O_RDONLY)
    making = flags | os.O_CREAT | os.O_EXCL
    if mode is Mode.EXCLUSIVE:
        return os.open(real, making, 0o666), True
    while True:
        try:
            return os.open(real, flags), False
        except FileNotFoundError:
            if mode not in _CREATING:
                raise
        with suppress(FileExistsError):
            return os.open(real, making, 0o666), True


def _lock(main: int, file: Path, mode: Mode, locking: Locking) -> None:
    """Lock as HDF5 does, so that its programs are refused, and refuse."""
    if not locks_apply(locking):
        return
    try:
        fcntl.flock(main, (fcntl.LOCK_EX if mode.writes else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise explain_lock(file, main, is_read=not mode.writes) from None
    except OSError as error:
        if locking is Locking.TRUE:
            reason = f"{error.strerror}{advise(error)}"
            raise CannotOpenError(f"{file} cannot be locked: {reason}") from None


def _open_log(path: Path, file: Path, main: int, mode: Mode) -> int | None:
    try:
        return open_log(path, file, main, writes=mode.writes)
    except OSError as error:
        if not mode.writes:
            raise CannotOpenError(f"{path}: {error.strerror}{advise(error)}") from None
        reason = "read-only file system" if error.errno == errno.EROFS else error.strerror
        raise CannotOpenError(
            f"{path}: {reason}; a mount that writes keeps its log beside the file, so the folder "
            "must allow that (copy the file to a folder of your own, or mount with --mode r)"
        ) from None


def _sync_folder(file: Path) -> None:
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""The mounted file as the daemon has it: checked and opened, for itself and for its workers.

One class for each way in which a file is kept; a store on top does not ask which it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from h5fs.errors import CannotOpenError
from h5fs.model.file_status import FileStatus, SpaceStatus
from h5fs.model.settings import StoreOptions
from h5fs.store.file_checks import check_identity, check_openable
from h5fs.store.locks.own_lock import take_own_lock
from h5fs.store.log.log_path import has_log
from h5fs.store.sources.interface import Source
from h5fs.store.sources.local_file import LocalFile
from h5fs.store.workers.worker_file import FileKind, WorkerFile

if TYPE_CHECKING:  # most files have no log
    from h5fs.store.chunks.chunk_fetcher import ChunkFetcher
    from h5fs.store.log.file_and_log import FileAndLog
    from h5fs.store.log.reading.snapshot_file import SnapshotFile


class MountedFile(Protocol):
    """A mounted file. ``open`` comes first, ``close`` last; any thread may call the others."""

    @property
    def source(self) -> Source:
        """The file's bytes."""

    @property
    def problem(self) -> str | None:
        """A line about damage that is not the HDF5 library's to find."""

    def open(self) -> None:
        """Check and open the file. Raises ``CannotOpenError``, ``OSError``."""

    def for_workers(self) -> WorkerFile:
        """Return what each worker is given of it."""

    def status(self) -> FileStatus:
        """Return owner, mode, size and times. Raises ``OSError``."""

    def space(self) -> SpaceStatus:
        """Return how much room there is where the file is kept. Raises ``OSError``."""

    def chunk_fetcher(self) -> ChunkFetcher | None:
        """Return what brings stored chunks here; None where all of the file is here."""

    def interrupt(self) -> None:
        """Let go whoever waits for bytes of the file: nobody needs them any more."""

    def close(self) -> None:
        """Close the file. A second call does nothing."""


class PlainFile:
    """A ``MountedFile`` of this machine, by its path."""

    problem = None

    def __init__(self, options: StoreOptions) -> None:
        self._options = options
        self._descriptor = -1

    @property
    def source(self) -> LocalFile:
        return LocalFile(self._descriptor)

    def open(self) -> None:
        options = self._options
        file = options.file
        self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        check_openable(
            file, options.locking, is_swmr=options.is_swmr, opened_as=_own_path(self._descriptor)
        )
        check_identity(options, self._descriptor)
        take_own_lock(self._descriptor, file, writes=False)
        if has_log(file):
            raise CannotOpenError(f"{file} was just written: open it once more")

    def for_workers(self) -> WorkerFile:
        return WorkerFile(FileKind.PLAIN, (self._descriptor,))

    def status(self) -> FileStatus:
        return self.source.status()

    def space(self) -> SpaceStatus:
        return self.source.space()

    def chunk_fetcher(self) -> None:
        return None

    def interrupt(self) -> None:
        pass  # nobody waits but for the disk

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class FileWithLog:
    """A ``MountedFile`` that is read or written through its redo log.

    ``removes_log``: everything in the log is in the file, too.
    """

    def __init__(self, options: StoreOptions, logged: FileAndLog) -> None:
        self._writes = options.mode.writes
        self.logged: FileAndLog | None = logged
        self.removes_log = False
        self._boot_id = options.boot_id
        self._own: list[int] = []
        self._for_readers: list[int] = []
        self._committed: SnapshotFile | None = None

    @property
    def source(self) -> Source:
        """The file's bytes; in a mode that only reads with what the log has."""
        return self._committed or self._local_file()

    def _local_file(self) -> LocalFile:
        return LocalFile(self._own[0] if self._own else -1)

    @property
    def problem(self) -> str | None:
        return (self.logged and self.logged.problem) or None

    def open(self) -> None:
        assert self.logged is not None
        self._own.append(os.dup(self.logged.main))
        # A worker that reads gets openings of its own, so that locks are out of its reach. One that
        # writes keeps the locks, too: until it has ended, nobody else may write, also when the
        # daemon is killed.
        lend = os.dup if self._writes else _open_anew
        self._own += map(lend, self.logged.descriptors())
        if self._writes:
            self._for_readers += map(_open_anew, self.logged.descriptors())
        else:
            from h5fs.store.log.reading.snapshot_file import SnapshotFile
            from h5fs.store.log.system_calls import RealFile

            committed = SnapshotFile(RealFile(self.logged.main), RealFile(self.logged.log))
            committed.open(self._boot_id)
            self._committed = committed

    def for_workers(self) -> WorkerFile:
        return WorkerFile(FileKind.LOGGED, tuple(self._own[1:]))

    def for_readers(self) -> WorkerFile:
        """Return what a worker is given that reads beside the one that writes."""
        return WorkerFile(FileKind.LOGGED, tuple(self._for_readers))

    def status(self) -> FileStatus:
        return self._local_file().status()

    def space(self) -> SpaceStatus:
        return self._local_file().space()

    def chunk_fetcher(self) -> None:
        return None

    def interrupt(self) -> None:
        pass  # nobody waits but for the disk

    def close(self) -> None:
        self._committed = None
        for opened in (self._own, self._for_readers):
            while opened:
                os.close(opened.pop())
        if self.logged is not None:
            self.logged.close(removes_log=self.removes_log)
            self.logged = None


def _own_path(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}")


def _open_anew(descriptor: int) -> int:
    return os.open(_own_path(descriptor), os.O_RDONLY | os.O_CLOEXEC)

"""What the daemon of a mount that writes knows of the last commit, and of what changed since when.

Between two requests the one writing worker has committed all that it did: so the last commit is the
present state, and everybody may read it beside the writer (`snapshot_file`). Each change tells
which objects' data it changed or removed (``note``). From that comes an object's *version*: what
was found out about its data, or read of them, is right as long as the version is the same.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from h5fs.errors import LogMismatchError
from h5fs.model.objects import ObjectRef
from h5fs.store.log.file_and_log import FileAndLog
from h5fs.store.log.reading.gate import Gate
from h5fs.store.log.reading.snapshot_file import SnapshotFile
from h5fs.store.log.system_calls import RealFile

_log = logging.getLogger(__name__)

_MOST_OBJECTS = 100_000

Version = int
"""Of an object's data: two that are equal stand for equal data."""

Commit = tuple[int, int]
"""The number of the log (each checkpoint begins a new one), and where in it a commit ends."""


class CommittedState:
    """The last commit, as the writing worker tells of it. Safe to use from any thread.

    ``find`` and ``note`` are called while the worker answers, or is gone, so that no commit comes
    between. ``gate``: all reading goes on inside of it. ``file``: the file as of the last commit,
    once ``catch_up`` was called.

    ``_lock`` protects everything else against two changes at once; it may be taken inside of the
    gate, and nothing but the lock of ``file`` is taken while it is held.
    """

    def __init__(self, files: FileAndLog) -> None:
        self.gate = Gate()
        self.file = SnapshotFile(RealFile(files.main), RealFile(files.log))
        self._log = files.log
        self._lock = threading.Lock()
        self._number = 0  # of the log
        self._stop = 0
        self._is_checkpointing = False
        self._count = 0  # of all changes that were noted
        self._all: Version = 0
        self._of: dict[int, Version] = {}  # of single objects, by id
        self._problem = "the file is not open yet"

    def find(self) -> None:
        """Look for the last commit in the log itself, as after the death of a worker."""
        with self._lock:
            try:
                if self._is_checkpointing and not os.fstat(self._log).st_size:
                    self._forget_log()
                self.file.open_beside_writer()
                self._set_problem(self.file.stop)
            except (OSError, LogMismatchError) as error:
                self._problem = str(error)
            self._note(None)
            problem = self._problem
        if problem:
            _log.error("nothing is read beside the library any more: %s", problem)

    def note(self, changed: Collection[int] | None, stop: int) -> None:
        """Take note of a commit that ends at ``stop``; after a checkpoint that is 0.

        ``changed``: the ids of the objects whose data it changed or removed; None: of any.
        """
        with self._lock:
            if self._is_checkpointing and not stop:
                try:
                    self._forget_log()
                except OSError as error:
                    self._problem = str(error)
            self._set_problem(stop)
            self._note(changed)

    def _forget_log(self) -> None:
        self.file.forget()
        self._number, self._stop = self._number + 1, 0

    def _set_problem(self, stop: int) -> None:
        """Take over where the last commit ends; commits that are gone are a problem for good."""
        if stop < self._stop:
            self._problem = f"the log ends at byte {stop}, and had commits up to {self._stop}"
        elif stop > self._stop or not self._stop:
            self._stop = stop
            self._problem = ""

    def _note(self, changed: Collection[int] | None) -> None:
        self._count += 1
        if changed is None or len(self._of) > _MOST_OBJECTS:
            self._all = self._count
            self._of.clear()
        else:
            self._of.update(dict.fromkeys(changed, self._count))

    def version_of(self, ref: ObjectRef) -> Version:
        """Return the present version of an object's data. Files that links lead to have one."""
        return 0 if ref.file else self.version_of_id(ref.id)

    def version_of_id(self, object_id: int) -> Version:
        """Return the present version of the data of an object in the mounted file."""
        # Under the lock: a new commit and the versions that go with it are seen at once.
        with self._lock:
            return self._of.get(object_id, self._all)

    def last_commit(self) -> Commit:
        """Return the last commit.

        A reader must have come so far: what it is to read may be new since the commit before.
        """
        with self._lock:
            return self._number, self._stop

    @property
    def is_known(self) -> bool:
        """Whether the last commit can be read beside the writer."""
        return not self._problem

    def catch_up(self) -> None:
        """Let ``file`` be at the last commit. Inside of the gate. Raises ``OSError``."""
        if self.file.stop < self._stop:
            self.file.advance(self._stop)

    def give_up(self, error: OSError) -> None:
        """Take note that the log cannot be followed."""
        with self._lock:
            self._problem = self._problem or str(error)

    @contextmanager
    def checkpoint(self) -> Iterator[None]:
        """Keep all readers out while the block lets the worker make a checkpoint."""
        with self.gate.closed():
            self._is_checkpointing = True
            try:
                yield
            finally:
                self._is_checkpointing = False

"""Objects that have killed or hung a worker; nobody reads them until the file changes.

``_lock`` protects ``_reasons``; no other lock is taken while it is held.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from msgspec import Struct

from h5fs.errors import UnreadableError, show_path
from h5fs.model.objects import ObjectRef

_log = logging.getLogger(__name__)


class Subject(Struct, frozen=True):
    """The object that a request is about, or a link of a group (``name``) with its target.

    ``of_attributes``: the object's attributes only, not its data.
    """

    ref: ObjectRef
    name: bytes | None = None
    of_attributes: bool = False

    def __str__(self) -> str:
        return self.path

    @property
    def path(self) -> str:
        """The HDF5 path, and which part of the object, for messages."""
        if self.of_attributes:
            return f"attributes of {show_path(self.ref.path)}"
        if self.name is None:
            return show_path(self.ref.path)
        return show_path(self.ref.path.rstrip(b"/") + b"/" + self.name)


class Quarantine:
    """Remembers subjects of requests and the reasons, until the file changes.

    ``identify_file`` returns a value that changes when the mounted file does.
    """

    def __init__(self, identify_file: Callable[[], object]) -> None:
        self._identify_file = identify_file
        self._lock = threading.Lock()
        self._file: object = None
        self._reasons: dict[Subject, str] = {}

    def check(self, subject: Subject) -> None:
        """Raise ``UnreadableError`` when the subject is in quarantine."""
        if not self._reasons:  # the usual case takes no lock
            return
        with self._lock:
            reason = self._reasons.get(subject)
            if reason is not None and self._identify_file() != self._file:
                self._reasons.clear()
                reason = None
        if reason is not None:
            raise UnreadableError(f"{subject.path}: quarantined: {reason}")

    def holds(self, *subjects: Subject) -> bool:
        """Whether one of the subjects is in quarantine. Does not look for changes of the file."""
        if not self._reasons:
            return False
        with self._lock:
            return any(subject in self._reasons for subject in subjects)

    def add(self, subject: Subject, reason: str) -> None:
        """From now on refuse requests about the subject."""
        with self._lock:
            self._file = self._identify_file()
            self._reasons[subject] = reason
        _log.error(
            "quarantined: %s: %s; it is EIO until the file changes or is mounted anew",
            subject.path, reason,
        )  # fmt: skip

    def unsafe_names(self, group: ObjectRef) -> frozenset[bytes]:
        """Return the names of a group's links that lead to something in quarantine."""
        with self._lock:
            return frozenset(s.name for s in self._reasons if s.ref == group and s.name is not None)

    def reasons(self) -> dict[Subject, str]:
        """Return everything in quarantine, with the reasons."""
        with self._lock:
            return dict(self._reasons)

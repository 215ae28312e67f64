"""Changes in flight: those that the store makes at this moment, while the tree answers other calls.

The tree of a mode that writes answers one call after another, under the lock that is here. But a
frequent change waits for a worker most of its time: meanwhile its call marks the link that it
changes, and lets the lock go (``waiting``). Other calls go on, but for those that ask for what is
marked: these wait, before they look at anything, until the call that marked it has ended. So to
each call all others seem to have come before it or after it.

What a change in flight must be able to rely on:

- It alone changes its link, all files of that link, and what has been written to them.
- A call that names more than one path, or may change what is at other paths, is alone: it waits
  until nothing is in flight, and keeps the lock to its end.
- While anything is in flight, no file awaits others (``may_overlap``).
- A call has one mark, of what it has asked for when it began. It is never put while another call
  has that link marked, and who waits for a mark to go has none: so nobody waits for ever.

All else is done under the lock. What a call keeps of the HDF5 file is thus kept either before a
change ends, and then forgotten by it, or after the change has taken note of what there is now.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

from msgspec import Struct

from h5fs.model.settings import View
from h5fs.projection.names import Projection, decode_name, encode_names
from h5fs.tree.writing.pending.writable_file import WritableFile

Answer = TypeVar("Answer")


class OthersInFlightError(Exception):
    """A call has to be alone, and is not. It has changed nothing yet, and is made again."""


class _Mark(Struct, eq=False):
    """What a call changes: a link, by all ``names`` of its files in a folder, and ``file``."""

    folder: bytes
    link_name: bytes
    file: WritableFile | None
    names: frozenset[bytes] = frozenset()  # until somebody asks

    def is_touched_by(self, path: bytes) -> bool:
        """Whether a path is a file of the link, or below its folder."""
        folder = self.folder
        if path[: len(folder)] != folder or path[len(folder) : len(folder) + 1] != b"/":
            return False
        if not self.names:
            self.names = names_of_link(self.link_name)
        return path[len(folder) + 1 :].partition(b"/")[0] in self.names


class _Call(Struct, eq=False):  # no Python is run to make one
    """One call of ``every``, about a path or a file, from when it has the lock to its end.

    ``keeps_lock``: it does so all the time.
    """

    every: ChangesInFlight
    path: bytes | None = None
    file: WritableFile | None = None
    is_alone: bool = False
    keeps_lock: bool = False
    mark: _Mark | None = None

    def __enter__(self) -> None:
        """Take the lock, when nothing that the call asks for is in flight."""
        every = self.every
        every.changed.acquire()
        try:
            if every.marks:
                every.wait_for_marks(self, is_alone=self.is_alone)
            every.current = self
            if every.on_begin is not None:
                every.on_begin()
        except BaseException:
            every.current = None
            every.changed.release()
            raise

    def __exit__(self, *_error: object) -> None:
        """Let the lock go, and who has waited for the call."""
        every = self.every
        every.current = None
        if self.mark is not None:
            every.marks.remove(self.mark)
            if every.waiting_count:
                every.changed.notify_all()
        every.changed.release()

    def touches(self, mark: _Mark) -> bool:
        """Whether the call asks for what is marked. The path of a file may change meanwhile."""
        path, file = self.path, self.file
        if file is not None:
            if file is mark.file:
                return True
            path = None if file.is_gone else file.path
        return path is not None and mark.is_touched_by(path)


class _Waiting(Struct, eq=False):
    """The block of ``ChangesInFlight.waiting``, of a call that has a mark."""

    call: _Call

    def __enter__(self) -> None:
        """Let the lock go."""
        every = self.call.every
        every.current = None
        every.changed.release()
        if every.on_waiting is not None:
            every.on_waiting()

    def __exit__(self, *_error: object) -> None:
        """Take the lock again."""
        every = self.call.every
        every.changed.acquire()
        every.current = self.call


class _MakeCall(Protocol):
    def __call__(self, path: bytes | None = None, *, file: WritableFile | None = None) -> _Call: ...


class ChangesInFlight:
    """The tree's lock, and what has been marked by calls that wait for the store without it.

    ``may_overlap`` says whether a change may be in flight at all, now. ``on_begin`` is called when
    a call has the lock, ``on_waiting`` when it is going to wait for the store or for another call.
    ``changed`` has the lock, which is taken first of all locks; it protects everything here.
    """

    def __init__(self, may_overlap: Callable[[], bool] = lambda: True) -> None:
        self._may_overlap = may_overlap
        self.on_begin: Callable[[], None] | None = None
        self.on_waiting: Callable[[], None] | None = None
        self.changed = threading.Condition(threading.Lock())
        self.marks: list[_Mark] = []
        self.current: _Call | None = None  # the one that has the lock
        self._waiting_to_be_alone = 0
        self.waiting_count = 0  # how many calls wait for a change to end
        self.call: _MakeCall = functools.partial(_Call, self)  # no method: it is called so often
        """Answer a call in the block: about a path, or an open file, or nothing that changes."""

    @property
    def count(self) -> int:
        """How many changes are in flight; from any thread, without the lock."""
        return len(self.marks)

    def alone(self) -> _Call:
        """Answer a call in the block, with nothing in flight from its beginning to its end."""
        return _Call(self, is_alone=True, keeps_lock=True)

    def answer(
        self, step: Callable[[], Answer], path: bytes | None = None, *,
        file: WritableFile | None = None,
    ) -> Answer:  # fmt: skip
        """Answer a call by a step that may find out that it has to be alone."""
        try:
            with self.call(path, file=file):
                return step()
        except OthersInFlightError:
            with self.alone():
                return step()

    def wait_for_marks(self, call: _Call, *, is_alone: bool) -> None:
        """Wait until nothing is in flight that a call asks for."""
        # As long as somebody waits to be alone, no more calls let the lock go: so there is an end
        # to it.
        self.waiting_count += 1
        self._waiting_to_be_alone += is_alone
        try:
            while any(is_alone or call.touches(mark) for mark in self.marks):
                if self.on_waiting is not None:
                    self.on_waiting()
                self.changed.wait()
        finally:
            self._waiting_to_be_alone -= is_alone
            self.waiting_count -= 1

    def insist_on_being_alone(self) -> None:
        """Let the present call keep the lock to its end. Raises ``OthersInFlightError``."""
        call = self.current
        if call is None:
            return
        if any(mark is not call.mark for mark in self.marks):
            raise OthersInFlightError
        call.keeps_lock = True

    def waiting(
        self, path: bytes, file: WritableFile | None = None, *, is_alone: bool
    ) -> AbstractContextManager[None]:
        """Let other calls go on while the block waits for the store.

        The store makes a change to the link that ``path`` is a file of; it is that of the present
        call, and ``file`` what is written to it. ``is_alone``: the link's object is found by no
        other path. In the block nothing may be used that others may change.
        """
        call = self.current
        if call is None or not self._mark(call, path, file, is_alone=is_alone):
            return nullcontext()
        return _Waiting(call)

    def _mark(self, call: _Call, path: bytes, file: WritableFile | None, *, is_alone: bool) -> bool:
        """Let a call have a mark, and return whether it has it."""
        if call.keeps_lock or not is_alone or self._waiting_to_be_alone or not self._may_overlap():
            return False
        folder, _, name = path.rpartition(b"/")
        meaning = decode_name(name)
        if meaning is None or meaning.link_name is None:  # the name does not tell the link
            return False
        link_name = meaning.link_name
        if call.mark is not None:
            return call.mark.folder == folder and call.mark.link_name == link_name
        if self.marks and any(
            mark.is_touched_by(path) or mark.file is file is not None for mark in self.marks
        ):
            return False
        call.mark = _Mark(folder, link_name, file)
        self.marks.append(call.mark)
        return True


def names_of_link(link_name: bytes) -> frozenset[bytes]:
    """Return all names that a link may have in the mount."""
    return frozenset(encode_names(link_name, (*Projection, *View)))

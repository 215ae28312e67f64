"""What each program has removed last: it may be about to make it anew.

Pure. Not thread-safe: under the tree's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from h5fs.projection.names import DentryName
from h5fs.tree.nodes import PARTNERS, PROJECTIONS, Node

_MOST_PROCESSES: Final = 64
_MOST_OBJECTS: Final = 64
_MOST_BYTES: Final = 2**20
_TIMES_MOST: Final = 2  # more may be held than is promised, so that many are given back together


Process = tuple[int, bytes]
"""A process: its number, which another one may get after it, and what tells the two apart."""


@dataclass(eq=False)
class RemovedObject:
    """An object of which a program has removed a link; it is held, so that it is still there.

    ``folder``: the path of the folder that the link was in. ``node``: the file that was removed,
    of a pair the one that was removed last. ``has_other_names``: other links lead to it.
    ``storage_bytes``: how much it takes in the HDF5 file. ``loses_attributes``: attributes that
    waited for what takes its place were removed, so that this has none.
    """

    folder: bytes
    node: Node
    has_other_names: bool
    storage_bytes: int
    loses_attributes: bool = False

    @property
    def link_name(self) -> bytes:
        """The name of the link."""
        assert self.node.link is not None
        return self.node.link.name

    def has_link_of(self, other: RemovedObject) -> bool:
        """Whether both have had the same link, one after the other."""
        return (self.folder, self.link_name) == (other.folder, other.link_name)

    def is_at(self, path: bytes, folder: Node, meaning: DentryName) -> bool:
        """Whether a path is that of a file of the object, in the same group.

        ``folder`` and ``meaning`` are those of the path.
        """
        projection = PROJECTIONS[self.node.kind]
        is_like = meaning.projection in (projection, PARTNERS.get(projection))
        return is_like and self.had_link(path, folder, meaning.link_name)

    def had_link(self, path: bytes, folder: Node, link_name: bytes | None) -> bool:
        """Whether a path is that of a file of the object's link, whatever is made of that."""
        assert self.node.parent is not None
        return (
            path.rpartition(b"/")[0] == self.folder
            and folder.info.ref == self.node.parent.info.ref
            and link_name == self.link_name
        )


class LastRemovals:
    """What each of the last ``most_processes`` processes that have removed anything removed last.

    These are, for each, the newest one and ``most_objects`` before it, of ``most_bytes`` in all; or
    more, but never twice as many, of twice as many bytes. Objects are given back when they are
    forgotten, many at a time, since somebody holds them.
    """

    def __init__(
        self, most_processes: int = _MOST_PROCESSES, most_objects: int = _MOST_OBJECTS,
        most_bytes: int = _MOST_BYTES,
    ) -> None:  # fmt: skip
        self._most_processes = most_processes
        self._most_objects = most_objects
        self._most_bytes = most_bytes
        # The process that has removed something last is the last.
        self._removed: dict[Process, list[RemovedObject]] = {}

    def __bool__(self) -> bool:
        return bool(self._removed)

    def put(self, process: Process, removed: RemovedObject) -> list[RemovedObject]:
        """Remember what a process has removed; return what is forgotten for it."""
        before = self._removed.pop(process, [])
        forgotten = [each for each in before if each.has_link_of(removed)]
        before = [each for each in before if each not in forgotten]
        if self._is_beyond(before, _TIMES_MOST):
            kept: list[RemovedObject] = []
            for each in reversed(before):
                (forgotten if self._is_beyond([*kept, each]) else kept).append(each)
            before = kept[::-1]
        self._removed[process] = [*before, removed]
        if len(self._removed) > self._most_processes:
            forgotten += self._removed.pop(next(iter(self._removed)))
        return forgotten

    def _is_beyond(self, removed: list[RemovedObject], times: int = 1) -> bool:
        size = sum(each.storage_bytes for each in removed)
        return len(removed) > times * self._most_objects or size > times * self._most_bytes

    def take(
        self, process: Process, path: bytes, folder: Node, meaning: DentryName
    ) -> RemovedObject | None:
        """Return what a process has removed at a path, and forget it here."""
        for removed in self._removed.get(process, ()):
            if removed.is_at(path, folder, meaning):
                self._remove(process, removed)
                return removed
        return None

    def forget(self, is_over: Callable[[Process, RemovedObject], bool]) -> list[RemovedObject]:
        """Forget what ``is_over`` says, of a process and what it has removed; return that."""
        every = [
            (process, removed) for process, several in self._removed.items() for removed in several
        ]
        over = [(process, removed) for process, removed in every if is_over(process, removed)]
        for process, removed in over:
            self._remove(process, removed)
        return [removed for _, removed in over]

    def every(self) -> list[RemovedObject]:
        """Return all that is remembered."""
        return [removed for several in self._removed.values() for removed in several]

    def processes(self) -> list[Process]:
        """Return the processes of which anything is remembered."""
        return list(self._removed)

    def _remove(self, process: Process, removed: RemovedObject) -> None:
        self._removed[process].remove(removed)
        if not self._removed[process]:
            del self._removed[process]

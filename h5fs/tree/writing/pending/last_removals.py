"""What each program has removed last: it may be about to make it anew.

Pure. Not thread-safe: under the tree's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from h5fs.projection.names import DentryName
from h5fs.tree.nodes import PARTNERS, PROJECTIONS, Node
from h5fs.tree.writing.pending.processes import Process

_MOST_PROCESSES: Final = 64
_MOST_OBJECTS: Final = 16  # each costs those after it, since the hidden group has links to all
_MOST_BYTES: Final = 2**20
_TIMES_MOST: Final = 2  # more may be held than is promised, so that many are given back together

_storage_bytes = attrgetter("storage_bytes")


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

    @property
    def link(self) -> tuple[bytes, bytes]:
        """Which link it was: several may have had the same, one after the other."""
        return self.folder, self.link_name

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
        # By process, of which the one that has removed something last is the last; and by link.
        self._removed: dict[Process, dict[tuple[bytes, bytes], RemovedObject]] = {}

    def __bool__(self) -> bool:
        return bool(self._removed)

    def put(self, process: Process, removed: RemovedObject) -> list[RemovedObject]:
        """Remember what a process has removed; return what is forgotten for it."""
        before = self._removed.pop(process, {})
        same = before.pop(removed.link, None)
        forgotten = [] if same is None else [same]
        if self._is_beyond(before.values(), _TIMES_MOST):
            kept: list[RemovedObject] = []
            for each in reversed(before.values()):
                (forgotten if self._is_beyond([*kept, each]) else kept).append(each)
            before = {each.link: each for each in reversed(kept)}
        before[removed.link] = removed
        self._removed[process] = before
        if len(self._removed) > self._most_processes:
            forgotten += self._removed.pop(next(iter(self._removed))).values()
        return forgotten

    def _is_beyond(self, removed: Collection[RemovedObject], times: int = 1) -> bool:
        size = sum(map(_storage_bytes, removed))
        return len(removed) > times * self._most_objects or size > times * self._most_bytes

    def take(
        self, process: Process, path: bytes, folder: Node, meaning: DentryName
    ) -> RemovedObject | None:
        """Return what a process has removed at a path, and forget it here."""
        removed = self._find(process, path, meaning.link_name)
        if removed is None or not removed.is_at(path, folder, meaning):
            return None
        self._remove(process, removed)
        return removed

    def forget_at(self, path: bytes, folder: Node, link_name: bytes | None) -> list[RemovedObject]:
        """Forget what any process has removed of the link of a path; return that."""
        over = [
            (process, removed)
            for process in self._removed
            if (removed := self._find(process, path, link_name)) is not None
            and removed.had_link(path, folder, link_name)
        ]
        for process, removed in over:
            self._remove(process, removed)
        return [removed for _, removed in over]

    def forget_of(self, processes: Collection[Process]) -> list[RemovedObject]:
        """Forget what some processes have removed; return that."""
        return [each for process in processes for each in self._removed.pop(process, {}).values()]

    def forget(self, is_over: Callable[[RemovedObject], bool]) -> list[RemovedObject]:
        """Forget what ``is_over`` says; return that."""
        every = [
            (process, removed)
            for process, several in self._removed.items()
            for removed in several.values()
        ]
        over = [(process, removed) for process, removed in every if is_over(removed)]
        for process, removed in over:
            self._remove(process, removed)
        return [removed for _, removed in over]

    def every(self) -> list[RemovedObject]:
        """Return all that is remembered."""
        return [removed for several in self._removed.values() for removed in several.values()]

    def processes(self) -> list[Process]:
        """Return the processes of which anything is remembered."""
        return list(self._removed)

    def _find(self, process: Process, path: bytes, link_name: bytes | None) -> RemovedObject | None:
        if link_name is None:
            return None
        return self._removed.get(process, {}).get((path.rpartition(b"/")[0], link_name))

    def _remove(self, process: Process, removed: RemovedObject) -> None:
        del self._removed[process][removed.link]
        if not self._removed[process]:
            del self._removed[process]

"""What each program has removed last: it may be about to make it anew.

Pure. Not thread-safe: under the tree's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from h5fs.projection.names import DentryName
from h5fs.tree.nodes import PARTNERS, PROJECTIONS, Node

_MOST_PROCESSES: Final = 64
_MOST_OBJECTS: Final = 64
_MOST_BYTES: Final = 2**20

_storage_bytes = attrgetter("storage_bytes")


@dataclass(frozen=True, eq=False)
class RemovedObject:
    """An object of which a program has removed a link; it is held, so that it is still there.

    ``folder``: the path of the folder that the link was in. ``node``: the file that was removed,
    of a pair the one that was removed last. ``has_other_names``: other links lead to it.
    ``storage_bytes``: how much it takes in the HDF5 file.
    """

    folder: bytes
    node: Node
    has_other_names: bool
    storage_bytes: int

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
        assert self.node.parent is not None
        projection = PROJECTIONS[self.node.kind]
        return (
            path.rpartition(b"/")[0] == self.folder
            and folder.info.ref == self.node.parent.info.ref
            and meaning.link_name == self.link_name
            and meaning.projection in (projection, PARTNERS.get(projection))
        )


class LastRemovals:
    """What each of the last ``most_processes`` processes that have removed anything removed last.

    These are ``most_objects`` for each, of ``most_bytes`` in all, but for the newest one, which
    always stays. Objects are given back when they are forgotten, many at a time, since somebody
    holds them.
    """

    def __init__(
        self, most_processes: int = _MOST_PROCESSES, most_objects: int = _MOST_OBJECTS,
        most_bytes: int = _MOST_BYTES,
    ) -> None:  # fmt: skip
        self._most_processes = most_processes
        self._most_objects = most_objects
        self._most_bytes = most_bytes
        # By process, of which the one that has removed something last is the last; and by link.
        self._removed: dict[int, dict[tuple[bytes, bytes], RemovedObject]] = {}

    def __bool__(self) -> bool:
        return bool(self._removed)

    def put(self, pid: int, removed: RemovedObject) -> list[RemovedObject]:
        """Remember what a process has removed; return what is forgotten for it."""
        before = self._removed.pop(pid, {})
        same = before.pop(removed.link, None)
        forgotten = [] if same is None else [same]
        is_full = len(before) >= self._most_objects
        if is_full or sum(map(_storage_bytes, before.values())) > self._most_bytes:
            forgotten += before.values()
            before = {}
        before[removed.link] = removed
        self._removed[pid] = before
        if len(self._removed) > self._most_processes:
            forgotten += self._removed.pop(next(iter(self._removed))).values()
        return forgotten

    def take(
        self, pid: int, path: bytes, folder: Node, meaning: DentryName
    ) -> RemovedObject | None:
        """Return what a process has removed at a path, and forget it here."""
        removed = self._find(pid, path, folder, meaning)
        if removed is not None:
            self._remove(pid, removed)
        return removed

    def forget_at(self, path: bytes, folder: Node, meaning: DentryName) -> list[RemovedObject]:
        """Forget what any process has removed at a path; return that."""
        over = [(pid, self._find(pid, path, folder, meaning)) for pid in self._removed]
        for pid, removed in over:
            if removed is not None:
                self._remove(pid, removed)
        return [removed for _, removed in over if removed is not None]

    def forget(self, is_over: Callable[[int, RemovedObject], bool]) -> list[RemovedObject]:
        """Forget what ``is_over`` says, of a process and what it has removed; return that."""
        every = [
            (pid, removed) for pid, several in self._removed.items() for removed in several.values()
        ]
        over = [(pid, removed) for pid, removed in every if is_over(pid, removed)]
        for pid, removed in over:
            self._remove(pid, removed)
        return [removed for _, removed in over]

    def pids(self) -> list[int]:
        """Return the processes of which anything is remembered."""
        return list(self._removed)

    def _find(
        self, pid: int, path: bytes, folder: Node, meaning: DentryName
    ) -> RemovedObject | None:
        if meaning.link_name is None:
            return None
        link = path.rpartition(b"/")[0], meaning.link_name
        removed = self._removed.get(pid, {}).get(link)
        return removed if removed is not None and removed.is_at(path, folder, meaning) else None

    def _remove(self, pid: int, removed: RemovedObject) -> None:
        del self._removed[pid][removed.link]
        if not self._removed[pid]:
            del self._removed[pid]

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


@dataclass(frozen=True, eq=False)
class RemovedObject:
    """An object of which a program has removed a link; it is held, so that it is still there.

    ``folder``: the path of the folder that the link was in. ``node``: the file that was removed,
    of a pair the one that was removed last. ``has_other_names``: other links lead to it.
    """

    folder: bytes
    node: Node
    has_other_names: bool

    @property
    def link_name(self) -> bytes:
        """The name of the link."""
        assert self.node.link is not None
        return self.node.link.name

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
    """The last removed object of each of the last ``most`` processes that have removed any.

    Objects are given back when they are forgotten, since somebody holds them.
    """

    def __init__(self, most: int = _MOST_PROCESSES) -> None:
        self._most = most
        self._removed: dict[int, RemovedObject] = {}  # the one that was removed last is the last

    def __bool__(self) -> bool:
        return bool(self._removed)

    def put(self, pid: int, removed: RemovedObject) -> list[RemovedObject]:
        """Remember what a process has removed; return what is forgotten for it."""
        forgotten = [self._removed.pop(pid)] if pid in self._removed else []
        self._removed[pid] = removed
        if len(self._removed) > self._most:
            forgotten.append(self._removed.pop(next(iter(self._removed))))
        return forgotten

    def get(self, pid: int) -> RemovedObject | None:
        """Return what a process has removed last."""
        return self._removed.get(pid)

    def pop(self, pid: int) -> None:
        """Forget what a process has removed."""
        del self._removed[pid]

    def forget(self, is_over: Callable[[int, RemovedObject], bool]) -> list[RemovedObject]:
        """Forget what ``is_over`` says, of a process and what it has removed; return that."""
        pids = [pid for pid, removed in self._removed.items() if is_over(pid, removed)]
        return [self._removed.pop(pid) for pid in pids]

"""What programs asked for in the groups that they went through last, of one file or of many."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from h5fs.store.ahead.walk import Asked, Walk

# Two, since a program that goes through groups in a group asks for the attributes of each, and for
# what is in it, in turn.
_GROUPS_REMEMBERED = 2
_ANSWERS_REMEMBERED = 1024

# After a program has asked for the sizes of all attribute files of a folder, so many more folders
# are listed with these sizes; then a program has to ask for them again.
_EAGER_FOLDERS = 16


@dataclass(eq=False, slots=True)
class AskedFiles:
    """How many files of a folder programs asked for that take a closer look than its listing, and
    how many attribute files it has."""

    attribute_file_count: int
    asked_count: int = 0


class Habits:
    """Tells what programs will most likely ask for in a group that they have just come to.

    The files of a folder share one, since programs that go through a folder do the same in each.
    ``at_first``: what is asked for of each object before anything was learnt. ``few``: until there
    were so many questions, objects of a group that has no more are asked about one by one: a worker
    that has just begun first has to import what answers a batch, which takes longer. ``_lock``
    protects everything else here; nothing else is taken while it is held. Safe to use from any
    thread.
    """

    def __init__(self, *at_first: Asked, few: int = 0) -> None:
        self.few = few
        self._lock = threading.Lock()
        # Sets that may still grow: those of the walks themselves.
        self._finished: deque[set[Asked]] = deque(maxlen=_GROUPS_REMEMBERED)
        if at_first:
            self._finished.append(set(at_first))
        self._looked = self._used = 0
        self._last_listed: AskedFiles | None = None
        self._eager_left = 0

    def expected(self) -> set[Asked]:
        """Return what is to be asked for about objects of a new group; nothing when not known."""
        with self._lock:
            if 2 * self._used < self._looked:  # most of it was not used
                return set()
            return set().union(*self._finished)

    def note_end(self, walk: Walk) -> None:
        """Take note that a group was gone through as a whole."""
        with self._lock:
            if all(each is not walk.asked for each in self._finished):
                self._finished.append(walk.asked)

    def note_looked(self, count: int) -> None:
        """Take note of answers that came before they were asked for."""
        with self._lock:
            self._looked += count
            if self._looked > _ANSWERS_REMEMBERED:
                self._looked, self._used = self._looked // 2, self._used // 2

    def note_used(self) -> None:
        """Take note that one of those answers was asked for."""
        with self._lock:
            self._used += 1

    def lists_with_sizes(self, listed: AskedFiles) -> bool:
        """Take note of another listing; return whether sizes of attribute files belong to it."""
        with self._lock:
            last, self._last_listed = self._last_listed, listed
            if last is not None and last.attribute_file_count:
                is_gone_through = 2 * last.asked_count >= last.attribute_file_count
                self._eager_left = (
                    _EAGER_FOLDERS if is_gone_through else max(self._eager_left - 1, 0)
                )
            return self._eager_left > 0

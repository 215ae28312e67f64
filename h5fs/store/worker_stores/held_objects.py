"""Objects that programs have open while links to them may go.

The worker keeps such an object in the hidden group when a change takes its last link, until it is
dropped. Whether a change will do so is known to the worker alone, and an object may be let go while
one is under way: then it is dropped after the change. Safe to call from any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from h5fs.errors import H5fsError, show_path
from h5fs.model.objects import ObjectRef

_log = logging.getLogger(__name__)


class HeldObjects:
    """Counts who holds which object. ``drop`` lets the worker delete those that have no link.

    ``_lock`` protects ``_counts``, ``_untouched`` (held objects from which no change has taken a
    link since; of the others it may have been the last) and ``_let_go_meanwhile`` (for each change
    under way, those of the others that were let go since it began); nothing else is called while it
    is held.
    """

    def __init__(self, drop: Callable[[Sequence[ObjectRef]], None]) -> None:
        self._drop = drop
        self._lock = threading.Lock()
        self._counts: dict[ObjectRef, int] = {}
        self._untouched: set[ObjectRef] = set()
        self._let_go_meanwhile: dict[object, list[ObjectRef]] = {}

    def hold(self, ref: ObjectRef) -> None:
        """Hold an object, perhaps once more."""
        with self._lock:
            if ref not in self._counts:
                self._untouched.add(ref)
            self._counts[ref] = self._counts.get(ref, 0) + 1

    def let_go(self, *refs: ObjectRef) -> None:
        """End one ``hold`` of each; after the last one drop the object, if it may have no link.

        Raises ``H5fsError``.
        """
        dropped = []
        with self._lock:
            for ref in refs:
                count = self._counts.get(ref, 0)
                if count > 1:
                    self._counts[ref] = count - 1
                if count != 1:  # 0: a worker that lies has called it something else before
                    continue
                del self._counts[ref]
                if ref in self._untouched:
                    self._untouched.discard(ref)
                else:
                    dropped.append(ref)
            for let_go in self._let_go_meanwhile.values():
                let_go.extend(dropped)
            if self._let_go_meanwhile:
                return  # what is under way may be about to keep them
        if dropped:
            self._drop(dropped)

    @contextmanager
    def keeping(self) -> Iterator[tuple[int, ...]]:
        """Yield the ids of the held objects, for a change in the block that takes links away."""
        change, let_go = object(), list[ObjectRef]()
        with self._lock:
            self._untouched.clear()
            opened = tuple([ref.id for ref in self._counts])
            self._let_go_meanwhile[change] = let_go
        try:
            yield opened
        finally:
            with self._lock:
                del self._let_go_meanwhile[change]
                held_again = [ref for ref in let_go if ref in self._counts]
                self._untouched.difference_update(held_again)
            dropped = [ref for ref in let_go if ref not in held_again]
            if dropped:
                self._drop_or_tell(dropped)

    def _drop_or_tell(self, refs: Sequence[ObjectRef]) -> None:
        try:
            self._drop(refs)
        except H5fsError as error:  # the change is made all the same
            paths = ", ".join(show_path(ref.path) for ref in refs)
            _log.warning("takes space until the mount ends: %s: %s", paths, error)

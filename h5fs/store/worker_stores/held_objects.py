"""Objects that programs have open while links to them may go.

The worker keeps such an object in the hidden group when a change takes its last link, until it is
dropped. Whether a change will do so is known to the worker alone, and an object may be let go while
one is under way: then it is dropped after the change. Safe to call from any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from msgspec import Struct

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
        # By id: all are in the mounted file.
        self._counts: dict[int, int] = {}
        self._untouched: set[int] = set()
        self._let_go_meanwhile: dict[_Keeping, list[ObjectRef]] = {}

    def hold(self, ref: ObjectRef) -> None:
        """Hold an object, perhaps once more."""
        with self._lock:
            if ref.id not in self._counts:
                self._untouched.add(ref.id)
            self._counts[ref.id] = self._counts.get(ref.id, 0) + 1

    def let_go(self, *refs: ObjectRef) -> None:
        """End one ``hold`` of each; after the last one drop the object, if it may have no link.

        Raises ``H5fsError``.
        """
        dropped = []
        with self._lock:
            for ref in refs:
                count = self._counts.get(ref.id, 0)
                if count > 1:
                    self._counts[ref.id] = count - 1
                if count != 1:  # 0: a worker that lies has called it something else before
                    continue
                del self._counts[ref.id]
                if ref.id in self._untouched:
                    self._untouched.discard(ref.id)
                else:
                    dropped.append(ref)
            for let_go in self._let_go_meanwhile.values():
                let_go.extend(dropped)
            if self._let_go_meanwhile:
                return  # what is under way may be about to keep them
        if dropped:
            self._drop(dropped)

    def keeping(self) -> _Keeping:
        """Give a block the ids of the held objects, for a change that takes links away."""
        return _Keeping(self)

    def begin(self, change: _Keeping) -> tuple[int, ...]:
        """Return the ids of the held objects, at the beginning of such a block."""
        with self._lock:
            self._untouched.clear()
            self._let_go_meanwhile[change] = []
            return tuple(self._counts)

    def end(self, change: _Keeping) -> None:
        """Drop what was let go meanwhile, at the end of such a block."""
        with self._lock:
            let_go = self._let_go_meanwhile.pop(change)
            if not let_go:
                return
            dropped = [ref for ref in let_go if ref.id not in self._counts]
            # Of those that are held again a link is perhaps gone.
            self._untouched.difference_update([ref.id for ref in let_go])
        if dropped:
            self._drop_or_tell(dropped)

    def _drop_or_tell(self, refs: Sequence[ObjectRef]) -> None:
        try:
            self._drop(refs)
        except H5fsError as error:  # the change is made all the same
            paths = ", ".join(show_path(ref.path) for ref in refs)
            _log.warning("takes space until the mount ends: %s: %s", paths, error)


class _Keeping(Struct, eq=False):
    """The block of ``HeldObjects.keeping``."""

    objects: HeldObjects

    def __enter__(self) -> tuple[int, ...]:
        return self.objects.begin(self)

    def __exit__(self, *_error: object) -> None:
        self.objects.end(self)

"""Answers about many small objects, asked of a worker in batches before programs ask for them.

Programs that only want names cause no batch: the first one comes when a program asks about a second
object of a group, in order, or about the first one after it has gone through other groups as a
whole. A batch has no errors: an object that it cannot answer for is asked about alone.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from h5fs.errors import H5fsError
from h5fs.model.link_table import LinkTable
from h5fs.model.objects import ObjectRef
from h5fs.store.ahead.habits import Habits
from h5fs.store.ahead.walk import MOST_LOOKS, Asked, Walk
from h5fs.store.library_interface import Look, ObjectDetails

_log = logging.getLogger(__name__)

_MOST_KEPT_BYTES = 16 * 2**20
_ENTRY_BYTES = 500  # what an answer takes beside its bytes
_MOST_TABLE_BYTES = 32 * 2**20
_MOST_LEFT_OUT = 10_000

# How long a question waits for a batch that has its object. Then the object is asked about alone.
_PATIENCE_SECONDS = 0.2
_MOST_WAITS = 4  # an answer may have come for the first few of a batch only
# How many looks the first batch of a group has, when the groups before were gone through.
_EAGER_LOOKS = 64


class LookFailedError(Exception):
    """A worker has died or hung; ``place``: at which look of the batch, None when not known."""

    def __init__(self, place: int | None) -> None:
        super().__init__(place)
        self.place = place


class _Batch:
    """Looks that a worker has been asked for."""

    def __init__(self, walk: Walk, looks: list[tuple[int, Look]]) -> None:
        self.walk = walk
        self.looks = looks
        self.refs = {look.ref for _, look in looks}  # questions about these may wait
        self.is_late = False
        self._done = threading.Event()

    def wait(self) -> bool:
        """Wait; return whether the batch is done. Nobody waits again for a batch that is late."""
        if not self.is_late and not self._done.wait(_PATIENCE_SECONDS):
            self.is_late = True
        return self._done.is_set()

    def end(self) -> None:
        """Let all that wait for the batch go on."""
        self._done.set()


class ObjectsAhead:
    """Knows which objects will be asked for, and keeps what workers have answered about them.

    ``look`` asks a worker; it answers the first of the looks, as many as take little time, and
    raises ``LookFailedError`` or ``H5fsError``. ``is_open_to``: whether an object may be looked at.
    ``batches_at_once``: fewer than there are workers, so that others find one that is idle.
    ``habits``: those of the programs that read this file, and others with it.
    ``_lock`` protects everything here; ``look`` is called without it, on a thread of its own. Safe
    to use from any thread.
    """

    def __init__(
        self,
        look: Callable[[tuple[Look, ...]], tuple[ObjectDetails, ...]],
        is_open_to: Callable[[ObjectRef], bool],
        *,
        batches_at_once: int = 1,
        habits: Habits | None = None,
    ) -> None:
        self._look = look
        self._is_open_to = is_open_to
        self._lock = threading.Lock()
        self._walks: OrderedDict[tuple[int, bytes], Walk] = OrderedDict()
        self._table_bytes = 0
        self._kept: OrderedDict[ObjectRef, dict[Asked, Any]] = OrderedDict()
        self._kept_bytes = 0
        self._pending: dict[Walk, list[_Batch]] = {}
        self._left_out: set[ObjectRef] = set()
        self._batches_at_once = batches_at_once
        self._helpers = ThreadPoolExecutor(batches_at_once, thread_name_prefix="look-ahead")
        self._habits = habits or Habits()
        self._questions = 0

    @property
    def kept_bytes(self) -> int:
        """About how much memory the answers take."""
        return self._kept_bytes

    def note_listing(self, table: LinkTable) -> None:
        """Take in which objects a group has."""
        walk = Walk(table)
        key = table.group.file, table.group.path.rstrip(b"/")
        with self._lock:
            old = self._walks.pop(key, None)
            self._table_bytes += walk.size_bytes - (old.size_bytes if old is not None else 0)
            self._walks[key] = walk
            while self._table_bytes > _MOST_TABLE_BYTES and len(self._walks) > 1:
                self._table_bytes -= self._walks.popitem(last=False)[1].size_bytes

    def get(self, ref: ObjectRef, asked: Asked, *, keeps: bool = False) -> Any:
        """Return an answer that is at hand, or will be in a moment; None: ask for it.

        The answer is forgotten then, unless ``keeps``.
        """
        if not self._walks or not self._is_open_to(ref):
            return None
        for _ in range(_MOST_WAITS):
            with self._lock:
                self._questions += 1
                found = self._take(ref, asked, keeps=keeps)
                batch = self._note(ref, asked)
            if found is not None or batch is None or not batch.wait():
                return found
        return None

    def forget(self) -> None:
        """Forget all answers, and which objects there are."""
        with self._lock:
            self._walks.clear()
            self._kept.clear()
            self._pending.clear()  # what is under way is thrown away when it comes
            self._left_out.clear()
            self._table_bytes = self._kept_bytes = 0

    def close(self) -> None:
        """End. Questions that wait are asked alone."""
        self._helpers.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for batches in self._pending.values():
                for batch in batches:
                    batch.end()
        self.forget()

    def _note(self, ref: ObjectRef, asked: Asked) -> _Batch | None:
        """Take in a question; return the batch that will have the answer, if there is one."""
        key = ref.file, ref.path.rpartition(b"/")[0]
        walk = self._walks.get(key)
        if walk is None:
            return None
        expected = self._habits.expected() if walk.is_new else set()
        goes_on = walk.note(ref, asked)
        is_eager = bool(expected) and not walk.is_new
        if is_eager:
            walk.asked |= expected
            walk.look_count = _EAGER_LOOKS
        pending = self._pending.get(walk, ())
        is_worth_it = max(walk.object_count, self._questions) > self._habits.few
        while (
            (goes_on or is_eager) and is_worth_it
            and len(pending) < self._batches_at_once and walk.needs_more()
        ):  # fmt: skip
            self._begin(walk)
            pending = self._pending.get(walk, ())
        if walk.is_at_end:
            self._habits.note_end(walk)
        return next((batch for batch in pending if ref in batch.refs), None)

    def _begin(self, walk: Walk) -> None:
        looks = [
            (rank, look)
            for rank, look in islice(walk.next_looks(), walk.look_count)
            if look.ref not in self._left_out and self._is_open_to(look.ref)
        ]
        if not looks:
            walk.end()
            return
        walk.stop = looks[-1][0] + 1
        walk.look_count = min(2 * walk.look_count, MOST_LOOKS)
        self._submit(_Batch(walk, looks))

    def _submit(self, batch: _Batch) -> None:
        try:
            self._helpers.submit(self._fetch, batch)
        except RuntimeError:  # it has been closed
            batch.walk.end()
        else:
            self._pending.setdefault(batch.walk, []).append(batch)

    def _fetch(self, batch: _Batch) -> None:
        details: tuple[ObjectDetails, ...] = ()
        culprit: int | None = None
        try:
            details = self._look(tuple(look for _, look in batch.looks))
        except LookFailedError as error:
            culprit = error.place
        except H5fsError as error:
            _log.debug("nothing is read ahead: %s", error)
        except Exception:
            _log.exception("unexpected; nothing is read ahead")
        finally:
            with self._lock:
                batches = self._pending.get(batch.walk, [])
                if batch in batches:
                    batches.remove(batch)
                    self._finish(batch, details, culprit)
                    if not batches:
                        del self._pending[batch.walk]
            batch.end()

    def _finish(
        self, batch: _Batch, details: tuple[ObjectDetails, ...], culprit: int | None
    ) -> None:
        left = batch.looks[len(details) :]
        for (_, look), found in zip(batch.looks, details, strict=False):
            self._keep(look, found)
        if culprit is not None and culprit < len(left) and len(self._left_out) < _MOST_LEFT_OUT:
            self._left_out.add(left.pop(culprit)[1].ref)
        elif not details:
            batch.walk.end()
            return
        if left:
            self._submit(_Batch(batch.walk, left))

    def _keep(self, look: Look, found: ObjectDetails) -> None:
        answers = (
            (Asked.ATTRIBUTES, found.attributes if look.attributes else None),
            (Asked.DATASET, found.dataset if look.dataset else None),
            (Asked.DATA, found.data if look.data else None),
            (Asked.STORAGE, found.storage if look.storage else None),
        )
        new = {asked: answer for asked, answer in answers if answer is not None}
        if not new:
            return
        old = self._kept.pop(look.ref, None)
        kept = self._kept[look.ref] = (old or {}) | new
        self._kept_bytes += _weigh(kept) - (_weigh(old) if old is not None else 0)
        self._habits.note_looked(len(new))
        while self._kept_bytes > _MOST_KEPT_BYTES:
            self._kept_bytes -= _weigh(self._kept.popitem(last=False)[1])

    def _take(self, ref: ObjectRef, asked: Asked, *, keeps: bool) -> Any:
        kept = self._kept.get(ref)
        found = kept.get(asked) if kept is not None else None
        if kept is None or found is None:
            return None
        self._habits.note_used()
        if not keeps:
            self._kept_bytes -= _weigh(kept)
            del kept[asked]
            self._kept_bytes += _weigh(kept)
            if not kept:
                self._kept_bytes -= _weigh(self._kept.pop(ref))
        return found


def _weigh(kept: dict[Asked, Any]) -> int:
    return _ENTRY_BYTES + sum(
        len(answer) if isinstance(answer, bytes) else _ENTRY_BYTES for answer in kept.values()
    )

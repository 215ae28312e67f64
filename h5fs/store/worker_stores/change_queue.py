"""Changes that threads ask for while the worker is busy with one gather, and go to it together.

There is no thread of its own. The first thread leads: it sends its change at once. Those that come
meanwhile wait; when the leader has its answer, the one that has waited longest leads, and sends all
that have gathered as one request. So one change alone goes the way that it would go without this
queue, and several share one flush of the library and one commit of the log. With 8 threads that
save small arrays a request has 4.8 of them, and each takes 0.6 of the worker's CPU and 0.4 of the
daemon's (`scripts/changes_together.py`). Knows nothing of workers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

MOST_CHANGES = 64
MOST_BYTES = 2**20
"""Changes that are sent together write no more bytes than this: nobody waits for many bytes of
others."""
MOST_DESCRIPTORS = 32
"""How many descriptors may travel with one packet; one more is needed for long arguments."""


class _Change(Protocol):
    """``goes_alone``: it is never sent with others. ``size``: how many bytes it writes."""

    @property
    def goes_alone(self) -> bool: ...
    @property
    def size(self) -> int: ...
    @property
    def descriptor_count(self) -> int: ...


_AnyChange = TypeVar("_AnyChange", bound=_Change)


@dataclass(frozen=True, slots=True)
class Answered:
    """A change is done, and has a result; or it was refused."""

    result: Any = None
    refusal: Exception | None = None


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """Nobody knows more of a change that was sent with others: it has to be made alone.

    ``may_be_done``: it may have been committed all the same.
    """

    may_be_done: bool


Outcome = Answered | NotAnswered


class _Waiting(Generic[_AnyChange]):
    """A thread that waits until its change is done, or until it leads."""

    __slots__ = ("change", "outcome", "signal")

    def __init__(self, change: _AnyChange) -> None:
        self.change = change
        self.outcome: Outcome | None = None
        self.signal = threading.Lock()  # a third of the cost of an Event
        self.signal.acquire()


class ChangeQueue(Generic[_AnyChange]):
    """Gathers the changes of many threads. Safe to use from any of them.

    ``send`` makes several changes and returns an outcome for each, in their order.
    ``change_count`` and ``request_count`` say how many changes were asked for and with how many
    requests they were sent, those made again alone not counted.

    ``_lock`` protects everything here, and is held for moments only; no change is sent while it is
    held. Of all threads the leader alone sends: ``_is_led``.
    """

    def __init__(
        self,
        send: Callable[[Sequence[_AnyChange]], Sequence[Outcome]],
        *,
        most_changes: int = MOST_CHANGES,
    ) -> None:
        self._send = send
        self._most_changes = most_changes
        self._lock = threading.Lock()
        self._is_led = False
        self._waiting: deque[_Waiting[_AnyChange]] = deque()
        self.change_count = 0
        self.request_count = 0

    def make(self, change: _AnyChange, make_alone: Callable[[bool], Any]) -> Any:
        """Return the result of a change, or raise its refusal.

        ``make_alone(may_be_done)`` makes it where there is no other one, or where it came to
        nothing with others: ``may_be_done``, as in ``NotAnswered``.
        """
        others: list[_Waiting[_AnyChange]] = []
        with self._lock:
            waiting = _Waiting(change) if self._is_led else None
            if waiting is not None:
                self._waiting.append(waiting)
            else:  # nobody leads, so that nobody waits
                self._is_led = True
                self.change_count += 1
                self.request_count += 1
        if waiting is not None:
            waiting.signal.acquire()
            if waiting.outcome is not None:
                return _settle(waiting.outcome, make_alone)
            others = self._take_others(change)
        if not others:
            try:
                return make_alone(False)
            finally:
                self._hand_over()
        return _settle(self._make_together(change, others), make_alone)

    def _take_others(self, change: _AnyChange) -> list[_Waiting[_AnyChange]]:
        """Let the one that has waited longest lead; take the changes that are sent with it."""
        others: list[_Waiting[_AnyChange]] = []
        with self._lock:
            self._waiting.popleft()
            size, descriptors = change.size, change.descriptor_count
            while self._waiting and not change.goes_alone:
                following = self._waiting[0].change
                size += following.size
                descriptors += following.descriptor_count
                if (
                    following.goes_alone
                    or size > MOST_BYTES
                    or descriptors > MOST_DESCRIPTORS
                    or len(others) + 1 >= self._most_changes
                ):
                    break
                others.append(self._waiting.popleft())
            self.change_count += 1 + len(others)
            self.request_count += 1
        return others

    def _make_together(self, change: _AnyChange, others: list[_Waiting[_AnyChange]]) -> Outcome:
        """Send changes together; return what became of the leader's own."""
        outcomes: Sequence[Outcome] = [NotAnswered(may_be_done=True)] * (1 + len(others))
        try:
            outcomes = self._send([change, *(other.change for other in others)])
        finally:
            # Whatever was raised: no thread waits for ever.
            for other, outcome in zip(others, outcomes[1:], strict=True):
                other.outcome = outcome
                other.signal.release()
            self._hand_over()
        return outcomes[0]

    def _hand_over(self) -> None:
        """Let the thread that has waited longest lead, if there is one."""
        with self._lock:
            if self._waiting:
                self._waiting[0].signal.release()
            else:
                self._is_led = False


def _settle(outcome: Outcome, make_alone: Callable[[bool], Any]) -> Any:
    if isinstance(outcome, NotAnswered):
        return make_alone(outcome.may_be_done)
    if outcome.refusal is not None:
        raise outcome.refusal
    return outcome.result

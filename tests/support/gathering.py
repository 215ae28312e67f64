"""Changes that a store gets at the same time, in a known order, so that they share a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore

_SECONDS = 240


@dataclass(frozen=True)
class _Nothing:
    """A change that holds the lead until it is told to end."""

    goes_alone: bool = True
    size: int = 0
    descriptor_count: int = 0


def together(
    store: WritingWorkerStore, *changes: Callable[[], Any], queue: Any = None
) -> list[Any]:
    """Ask for changes from a thread each, and let them wait until all are there.

    ``queue``: the one in which they wait, if that is not the one for changes. Returns, in their
    order, what each has returned or raised.
    """
    queue = queue or store._queue
    can_go = threading.Event()
    outcomes: list[Any] = [None] * len(changes)

    def ask(index: int) -> None:
        try:
            outcomes[index] = changes[index]()
        except Exception as error:
            outcomes[index] = error

    leader = threading.Thread(
        target=queue.make, args=(_Nothing(), lambda _: can_go.wait(_SECONDS)), daemon=True
    )
    threads = [threading.Thread(target=ask, args=(i,), daemon=True) for i in range(len(changes))]
    leader.start()
    _wait_until(lambda: queue._is_led)
    for i, thread in enumerate(threads):
        thread.start()
        asked = threads[: i + 1]
        _wait_until(lambda a=asked: len(queue._waiting) + _ended(a) >= len(a))
    can_go.set()
    for thread in [leader, *threads]:
        thread.join(_SECONDS)
        assert not thread.is_alive(), "a change waits for ever"
    return outcomes


def _ended(threads: list[threading.Thread]) -> int:
    """Return how many threads wait for nothing: what they ask for is no change, or is refused."""
    return sum(not thread.is_alive() for thread in threads)


def _wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + _SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.0005)

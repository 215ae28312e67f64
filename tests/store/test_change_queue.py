"""Threads that ask for changes at the same time: who sends them, with whom, and who is told what.

The queue alone, with changes that are numbers and no worker.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from support.waiting import PATIENCE_SECONDS, wait_until

from h5fs.store.worker_stores.change_queue import (
    MOST_BYTES,
    MOST_DESCRIPTORS,
    Answered,
    ChangeQueue,
    NotAnswered,
    Outcome,
)


@dataclass(frozen=True)
class Change:
    number: int
    goes_alone: bool = False
    size: int = 0
    descriptor_count: int = 0


class Gathering:
    """A queue over ``send``, whose lead is held until all changes of a test are waiting."""

    def __init__(
        self, send: Callable[[Sequence[Change]], Sequence[Outcome]] | None = None, **options: Any
    ) -> None:
        self.sent: list[list[int]] = []
        self.alone: list[tuple[int, bool]] = []
        self.seconds = 0.0  # that a change made alone takes
        self._send = send or (lambda changes: [Answered(each.number) for each in changes])
        self.queue: ChangeQueue[Change] = ChangeQueue(self._note, **options)

    def _note(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        self.sent.append([each.number for each in changes])
        return self._send(changes)

    def make(self, change: Change) -> Any:
        def make_alone(may_be_done: bool) -> int:
            self.alone.append((change.number, may_be_done))
            time.sleep(self.seconds)
            return 1000 + change.number

        return self.queue.make(change, make_alone)

    def hold(self, can_go: threading.Event) -> threading.Thread:
        """Let a thread lead, with a change of its own, until ``can_go``."""
        leader = threading.Thread(
            target=self.queue.make,
            args=(Change(-1), lambda _: can_go.wait(PATIENCE_SECONDS)),
            daemon=True,
        )
        leader.start()
        wait_until(lambda: self.queue._is_led)
        return leader

    def make_all(self, *changes: Change) -> dict[int, Any]:
        """Return by number what each change has returned or raised."""
        found: dict[int, Any] = {}

        def make(change: Change) -> None:
            try:
                found[change.number] = self.make(change)
            except Exception as error:
                found[change.number] = error

        can_go = threading.Event()
        leader = self.hold(can_go)
        threads = [threading.Thread(target=make, args=(c,), daemon=True) for c in changes]
        for i, thread in enumerate(threads):
            thread.start()
            wait_until(lambda i=i: len(self.queue._waiting) > i)
        can_go.set()
        for thread in [leader, *threads]:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive(), "a thread waits for ever"
        assert not self.queue._is_led and not self.queue._waiting
        return found


def test_a_change_that_comes_alone_is_made_alone() -> None:
    gathering = Gathering()
    assert [gathering.make(Change(n)) for n in range(3)] == [1000, 1001, 1002]
    assert gathering.sent == []
    assert gathering.alone == [(0, False), (1, False), (2, False)]
    assert (gathering.queue.change_count, gathering.queue.request_count) == (3, 3)


def test_changes_that_wait_are_sent_together_in_their_order_and_each_has_its_answer() -> None:
    gathering = Gathering()
    found = gathering.make_all(*map(Change, range(7)))
    assert gathering.sent == [[0, 1, 2, 3, 4, 5, 6]]
    assert found == {n: n for n in range(7)}
    assert (gathering.queue.change_count, gathering.queue.request_count) == (8, 2)


def test_what_comes_while_others_are_sent_goes_with_the_next_ones() -> None:
    late: list[threading.Thread] = []

    def answer(changes: Sequence[Change]) -> Sequence[Outcome]:
        if not late:
            late.extend(threading.Thread(target=gathering.make, args=(Change(n),)) for n in (7, 8))
            for thread in late:
                thread.start()
            wait_until(lambda: len(gathering.queue._waiting) == 2)
        return [Answered(each.number) for each in changes]

    gathering = Gathering(answer)
    can_go = threading.Event()
    gathering.hold(can_go)
    some = [threading.Thread(target=gathering.make, args=(Change(n),)) for n in (0, 1)]
    for thread in some:
        thread.start()
    wait_until(lambda: len(gathering.queue._waiting) == 2)
    can_go.set()
    for thread in some:
        thread.join(PATIENCE_SECONDS)
    for thread in late:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    assert [sorted(numbers) for numbers in gathering.sent] == [[0, 1], [7, 8]]


def test_one_that_is_refused_is_refused_alone() -> None:
    refusal = ValueError("no")
    gathering = Gathering(lambda _: [Answered(1), Answered(refusal=refusal), Answered(None)])
    assert gathering.make_all(*map(Change, range(3))) == {0: 1, 1: refusal, 2: None}
    assert gathering.alone == []


@pytest.mark.parametrize("may_be_done", [False, True])
def test_changes_that_came_to_nothing_are_made_alone(may_be_done: bool) -> None:
    gathering = Gathering(lambda changes: [NotAnswered(may_be_done)] * len(changes))
    assert gathering.make_all(*map(Change, range(4))) == {n: 1000 + n for n in range(4)}
    assert sorted(gathering.alone) == [(n, may_be_done) for n in range(4)]
    assert len(gathering.sent) == 1  # not together once more


def test_only_those_that_came_to_nothing_are_made_alone() -> None:
    gathering = Gathering(lambda _: [Answered(1), NotAnswered(False), Answered(3)])
    assert gathering.make_all(*map(Change, range(3))) == {0: 1, 1: 1001, 2: 3}
    assert gathering.alone == [(1, False)]


def test_what_nobody_foresaw_is_raised_once_and_holds_up_nobody() -> None:
    def fail(_: Sequence[Change]) -> Sequence[Outcome]:
        raise RuntimeError("unforeseen")

    gathering = Gathering(fail)
    found = gathering.make_all(*map(Change, range(3)))
    assert isinstance(found.pop(0), RuntimeError)
    assert found == {1: 1001, 2: 1002}
    assert sorted(gathering.alone) == [(1, True), (2, True)]
    assert gathering.make(Change(9)) == 1009


@pytest.mark.parametrize(
    "changes, sent",
    [
        ([Change(n, size=MOST_BYTES // 2) for n in range(5)], [[0, 1], [2, 3]]),
        ([Change(n, descriptor_count=MOST_DESCRIPTORS // 2) for n in range(4)], [[0, 1], [2, 3]]),
        ([Change(0), Change(1, goes_alone=True), Change(2), Change(3)], [[2, 3]]),
        ([Change(0, goes_alone=True), Change(1), Change(2)], [[1, 2]]),
        ([Change(0), Change(1), Change(2, size=MOST_BYTES + 1), Change(3)], [[0, 1]]),
    ],
)
def test_what_is_sent_together_is_bounded(changes: list[Change], sent: list[list[int]]) -> None:
    gathering = Gathering()
    found = gathering.make_all(*changes)
    assert gathering.sent == sent
    assert {n % 1000 for n in found.values()} == set(found)


def test_the_number_of_changes_in_a_request_is_bounded() -> None:
    gathering = Gathering(most_changes=3)
    gathering.make_all(*map(Change, range(7)))
    assert gathering.sent == [[0, 1, 2], [3, 4, 5]]
    assert gathering.alone == [(6, False)]


def test_many_threads_each_get_their_own_answers_and_one_at_a_time_sends() -> None:
    sending = threading.Lock()
    chance = random.Random(5)

    def answer(changes: Sequence[Change]) -> Sequence[Outcome]:
        assert sending.acquire(blocking=False), "two send at once"
        time.sleep(0.0002)
        sending.release()
        return [
            Answered(each.number) if chance.random() < 0.8 else NotAnswered(False)
            for each in changes
        ]

    gathering = Gathering(answer)
    gathering.seconds = 0.0002
    wrong: list[Any] = []

    def work(first: int) -> None:
        for n in range(first, first + 200):
            change = Change(n, goes_alone=n % 17 == 0, size=n % 5 * MOST_BYTES // 8)
            if gathering.make(change) not in (n, 1000 + n):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(10_000 * i,), daemon=True) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    assert wrong == []
    assert gathering.queue.change_count == 1600 > gathering.queue.request_count

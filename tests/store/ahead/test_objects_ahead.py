"""What is asked for ahead, of whom and how much: with a worker that is a function."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.waiting import PATIENCE_SECONDS

from h5fs.errors import UnreadableError
from h5fs.model.link_table import OBJECT_KINDS, ROW, LinkTable
from h5fs.model.objects import ObjectKind, ObjectRef
from h5fs.store.ahead import objects_ahead
from h5fs.store.ahead.habits import Habits
from h5fs.store.ahead.objects_ahead import LookFailedError, ObjectsAhead
from h5fs.store.ahead.walk import MOST_LOOKS, Asked
from h5fs.store.library_interface import Look, ObjectDetails

ROOT = ObjectRef(0, 96, b"/")


def table_of(count: int, group: ObjectRef = ROOT, *, descending: bool = False) -> LinkTable:
    """Return a group of datasets that nothing but attributes' number is known of."""
    names = [b"d%05d" % number for number in range(count)]
    rows = np.zeros(count, ROW)
    ids = 1000 + 100 * np.arange(count) + group.id
    rows["object_id"] = ids[::-1] if descending else ids
    rows["kind"] = OBJECT_KINDS.index(ObjectKind.DATASET)
    rows["attribute_count"] = 1
    rows["dataset"] = rows["file_offset"] = -1
    stops = np.cumsum([len(name) for name in names], dtype="<u8")
    return LinkTable(group, b"".join(names), stops.tobytes(), rows.tobytes(), (), {})


def refs_of(table: LinkTable) -> list[ObjectRef]:
    ids = np.frombuffer(table.rows, ROW)["object_id"].tolist()
    parent = table.group.path.rstrip(b"/")
    return [
        ObjectRef(0, number, parent + b"/" + table.names[6 * place : 6 * place + 6])
        for place, number in enumerate(ids)
    ]


class Asking:
    """Answers looks, and notes them."""

    def __init__(self, habits: Habits | None = None) -> None:
        self.batches: list[tuple[Look, ...]] = []
        self.answer: Callable[[tuple[Look, ...]], tuple[ObjectDetails, ...]] = self.know
        self.closed_to: set[ObjectRef] = set()
        is_open_to = lambda ref: ref not in self.closed_to  # noqa: E731
        self.ahead = ObjectsAhead(self.look, is_open_to, habits=habits)

    def look(self, looks: tuple[Look, ...]) -> tuple[ObjectDetails, ...]:
        self.batches.append(looks)
        return self.answer(looks)

    @staticmethod
    def know(looks: tuple[Look, ...]) -> tuple[ObjectDetails, ...]:
        return tuple(ObjectDetails(text_of(look.ref), None, look.ref.path) for look in looks)

    def walk(self, refs: list[ObjectRef], asked: Asked = Asked.ATTRIBUTES) -> int:
        """Ask for all in order; return how many have to be asked for alone."""
        return sum(self.ahead.get(ref, asked) is None for ref in refs)


def text_of(ref: ObjectRef) -> bytes:
    return b"{} %d" % ref.id


@pytest.fixture(autouse=True)
def _busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is waited for, however long others have the processor."""
    monkeypatch.setattr(objects_ahead, "_PATIENCE_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def asking() -> Iterator[Asking]:
    made = Asking()
    yield made
    made.ahead.close()


@pytest.mark.semantics("W20")
def test_a_listing_and_one_question_ask_for_nothing(asking: Asking) -> None:
    table = table_of(1000)
    asking.ahead.note_listing(table)
    assert asking.ahead.get(refs_of(table)[500], Asked.ATTRIBUTES) is None
    assert asking.batches == []


def test_who_asks_at_random_has_nothing_asked_ahead(asking: Asking) -> None:
    table = table_of(2000)
    asking.ahead.note_listing(table)
    refs = refs_of(table)
    order = [refs[number * 811 % 2000] for number in range(300)]
    assert asking.walk(order) == 300
    assert sum(map(len, asking.batches)) <= 2 * 8  # two may be neighbours by chance


@pytest.mark.parametrize("by_id", [False, True])
def test_who_goes_through_a_group_in_order_asks_once_for_many(asking: Asking, by_id: bool) -> None:
    table = table_of(3000, descending=True)
    asking.ahead.note_listing(table)
    refs = refs_of(table)
    if by_id:
        refs.sort(key=lambda ref: ref.id)
    assert asking.walk(refs) <= 2
    assert len(asking.batches) <= 5 + 3000 // MOST_LOOKS + 2
    asked = [look.ref for batch in asking.batches for look in batch]
    assert len(asked) == len(set(asked))


def test_answers_are_those_of_the_objects(asking: Asking) -> None:
    table = table_of(500)
    asking.ahead.note_listing(table)
    found = {ref: asking.ahead.get(ref, Asked.ATTRIBUTES) for ref in refs_of(table)}
    at_hand = {ref: text for ref, text in found.items() if text is not None}
    assert at_hand == {ref: text_of(ref) for ref in at_hand}
    assert len(at_hand) >= 498


@pytest.mark.semantics("W20")
def test_what_was_asked_of_one_file_is_asked_ahead_of_the_next() -> None:
    habits, alone, batches = Habits(), 0, 0
    for number in range(10):
        asking = Asking(habits)
        table = table_of(10, ObjectRef(0, 10**6 * (number + 1), b"/"))
        asking.ahead.note_listing(table)
        alone += asking.walk(refs_of(table))
        asking.ahead.close()
        batches += len(asking.batches)
    assert alone <= 2
    assert batches <= 12


@pytest.mark.semantics("W20")
def test_what_a_command_will_ask_for_is_asked_ahead_at_its_first_question() -> None:
    asking = Asking(Habits(Asked.ATTRIBUTES, Asked.STORAGE))
    table = table_of(10)
    asking.ahead.note_listing(table)
    assert asking.batches == []
    assert asking.walk(refs_of(table)) == 0
    asking.ahead.close()
    (batch,) = asking.batches
    assert all(look.attributes and look.storage and not look.data for look in batch)


@pytest.mark.semantics("W20")
def test_only_what_was_asked_for_is_asked_ahead(asking: Asking) -> None:
    table = table_of(200)
    asking.ahead.note_listing(table)
    refs = refs_of(table)
    asking.walk(refs[:100])
    assert not any(look.dataset or look.data for batch in asking.batches for look in batch)
    for ref in refs[100:]:
        asking.ahead.get(ref, Asked.ATTRIBUTES)
        asking.ahead.get(ref, Asked.DATA)
    assert any(look.data for batch in asking.batches for look in batch)
    assert not any(look.dataset for batch in asking.batches for look in batch)


def test_the_first_question_in_the_next_group_begins_a_batch(asking: Asking) -> None:
    groups = [ObjectRef(0, 10**6 * (n + 1), b"/g%d" % n) for n in range(20)]
    alone = 0
    for group in groups:
        table = table_of(10, group)
        asking.ahead.note_listing(table)
        alone += asking.walk(refs_of(table))
    assert alone <= 2
    assert len(asking.batches) <= 22


def test_groups_of_which_one_object_is_asked_for_cost_no_batch_for_long(asking: Asking) -> None:
    for number in range(200):
        table = table_of(50, ObjectRef(0, 10**6 * (number + 1), b"/g%d" % number))
        asking.ahead.note_listing(table)
        asking.walk(refs_of(table)[: 50 if number < 3 else 1])
    assert len(asking.batches) < 40


@pytest.mark.semantics("W20")
def test_an_object_that_kills_the_worker_is_left_out_and_its_neighbours_are_not(
    asking: Asking,
) -> None:
    table = table_of(300)
    refs = refs_of(table)
    hostile = refs[100]

    def answer(looks: tuple[Look, ...]) -> tuple[ObjectDetails, ...]:
        for place, look in enumerate(looks):
            if look.ref == hostile:
                raise LookFailedError(place)
        return asking.know(looks)

    asking.answer = answer
    asking.ahead.note_listing(table)
    alone = [ref for ref in refs if asking.ahead.get(ref, Asked.ATTRIBUTES) is None]
    assert hostile in alone
    assert len(alone) <= 4
    assert sum(hostile in {look.ref for look in batch} for batch in asking.batches) == 1


def test_a_batch_that_fails_is_no_error_and_is_not_tried_again(asking: Asking) -> None:
    def answer(_looks: tuple[Look, ...]) -> tuple[ObjectDetails, ...]:
        raise UnreadableError("no worker")

    asking.answer = answer
    table = table_of(300)
    asking.ahead.note_listing(table)
    assert asking.walk(refs_of(table)) == 300
    assert len(asking.batches) == 1  # one at a time


@pytest.mark.semantics("W20")
def test_one_question_waits_for_a_slow_batch_and_the_others_do_not(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_ahead, "_PATIENCE_SECONDS", 0.05)
    goes_on = threading.Event()

    def answer(looks: tuple[Look, ...]) -> tuple[ObjectDetails, ...]:
        assert goes_on.wait(PATIENCE_SECONDS)
        return asking.know(looks)

    asking.answer = answer
    table = table_of(8)
    asking.ahead.note_listing(table)
    waits: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", _counting(threading.Event.wait, waits, only=0.05))
    assert asking.walk(refs_of(table)) == 8
    goes_on.set()
    assert len(waits) == 1


def _counting(wait: Callable[..., bool], waits: list[float], *, only: float) -> Callable[..., bool]:
    def counted(event: threading.Event, timeout: float | None = None) -> bool:
        if timeout == only:
            waits.append(timeout)
        return wait(event, timeout)

    return counted


def test_an_answer_for_the_first_few_only_is_followed_by_the_next_batch(asking: Asking) -> None:
    asking.answer = lambda looks: asking.know(looks[:5])
    table = table_of(100)
    asking.ahead.note_listing(table)
    assert asking.walk(refs_of(table)) <= 2
    assert 19 <= len(asking.batches) <= 22


def test_answers_that_nobody_takes_are_bounded(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_ahead, "_MOST_KEPT_BYTES", 50_000)
    asking.answer = lambda looks: tuple(ObjectDetails(bytes(10_000)) for _ in looks)
    for number in range(10):
        table = table_of(300, ObjectRef(0, 10**6 * (number + 1), b"/g%d" % number))
        asking.ahead.note_listing(table)
        asking.walk(refs_of(table)[:2])
        assert asking.ahead.kept_bytes <= 50_000


def test_what_is_in_quarantine_is_neither_asked_for_nor_answered(asking: Asking) -> None:
    table = table_of(100)
    refs = refs_of(table)
    asking.closed_to = {refs[50]}
    asking.ahead.note_listing(table)
    assert asking.walk(refs) <= 3
    assert refs[50] not in {look.ref for batch in asking.batches for look in batch}


def test_nothing_is_known_after_forgetting(asking: Asking) -> None:
    table = table_of(100)
    asking.ahead.note_listing(table)
    asking.walk(refs_of(table)[:10])
    asking.ahead.forget()
    assert asking.walk(refs_of(table)) == 100
    assert asking.ahead.kept_bytes == 0


def test_a_closed_one_answers_nothing_and_holds_nobody_up(asking: Asking) -> None:
    table = table_of(100)
    asking.ahead.note_listing(table)
    asking.walk(refs_of(table)[:10])
    asking.ahead.close()
    start = time.monotonic()
    assert asking.walk(refs_of(table)) == 100
    assert time.monotonic() - start < 30

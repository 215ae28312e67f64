"""Drafts against a plain ``bytearray``, what they cost, and how many there may be."""

from __future__ import annotations

import gc
import os
import random
import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5fs.tree.contents.content import TextContent
from h5fs.tree.writing.pending.drafts import Draft

LARGEST = 80_000  # more than a draft keeps in memory
OFFSETS = st.one_of(st.integers(0, 200), st.integers(0, LARGEST), st.integers(32_700, 32_800))


@dataclass
class Model:
    draft: Draft
    data: bytearray

    def check(self, offset: int = 0, size: int = 2 * LARGEST) -> None:
        assert self.draft.size_bytes == len(self.data)
        assert self.draft.read(offset, size) == bytes(self.data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        self.draft.write(data, offset)
        self.data += bytes(max(offset + len(data) - len(self.data), 0)) if data else b""
        self.data[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        self.draft.truncate(size)
        del self.data[size:]
        self.data += bytes(size - len(self.data))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), OFFSETS, st.binary(min_size=1, max_size=300)),
        st.tuples(st.just("truncate"), OFFSETS),
        st.tuples(st.just("check"), OFFSETS, st.integers(0, 1000)),
        st.tuples(st.just("complete")),
    ),
    max_size=25,
)


@given(st.binary(max_size=500), STEPS)
def test_a_draft_reads_as_what_was_written_over_what_was_there(base: bytes, steps: list) -> None:
    model = Model(Draft(TextContent(base)), bytearray(base))
    try:
        for name, *arguments in steps:
            if name == "complete":
                model.draft.complete()
                assert os.pread(model.draft.descriptor, 2 * LARGEST, 0) == bytes(model.data)
            else:
                getattr(model, name)(*arguments)
        model.check()
        assert model.draft.written_bytes <= len(model.data)
    finally:
        model.draft.close()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=20), st.integers(1, 5))
def test_what_changed_is_told_in_whole_elements(writes: list, item_bytes: int) -> None:
    base = bytes(range(10 + 12 * item_bytes))
    model = Model(Draft(TextContent(base)), bytearray(base))
    try:
        for offset, size in writes:
            place = min(offset, len(base) - size)
            if place >= 10:
                model.write(place, b"\xff" * size)
        ranges = model.draft.complete_changes(10, item_bytes)
        changed = {at for at, (old, new) in enumerate(zip(base, model.data, strict=True))
                   if old != new}  # fmt: skip
        told = {at for low, high in ranges for at in range(low, high)}
        assert changed <= told
        for low, high in ranges:
            assert (low - 10) % item_bytes == (high - 10) % item_bytes == 0
            on_disk = os.pread(model.draft.descriptor, high - low, low)
            assert on_disk == bytes(model.data[low:high])
    finally:
        model.draft.close()


@pytest.mark.parametrize("order", ["forwards", "backwards", "shuffled"])
def test_a_write_costs_the_same_however_many_there_were(order: str) -> None:
    def seconds(count: int) -> float:
        places = [number * 8192 for number in range(count)]  # with gaps, so that none are joined
        if order == "backwards":
            places.reverse()
        elif order == "shuffled":
            random.Random(1).shuffle(places)
        draft = Draft()
        start = time.process_time()
        for place in places:
            draft.write(b"x" * 16, place)
        for place in places[:: len(places) // 100]:
            assert draft.read(place, 20) == b"x" * 16 + bytes(4) or place == max(places)
        spent = time.process_time() - start
        draft.close()
        return spent

    seconds(100)
    # Quadratic, 16 times as many took 250 times as long: 16,000 took 56 s.
    assert seconds(16_000) < 60 * seconds(1_000)


def test_a_small_draft_is_lent_as_its_bytes_and_any_other_as_a_file() -> None:
    small, large, based = Draft(), Draft(), Draft(TextContent(b"what was there"))
    small.write(b"small", 3)
    large.write(bytes(LARGEST), 0)
    based.write(b"now", 5)
    assert small.lend() == (-1, b"\0\0\0small")
    for draft, expected in ((large, bytes(LARGEST)), (based, b"what now there")):
        descriptor, data = draft.lend()
        assert data is None and os.pread(descriptor, 2 * LARGEST, 0) == expected
        draft.close()


def test_small_drafts_take_no_descriptor() -> None:
    gc.collect()  # what tests before this one have left open closes now, and not in between
    before = len(os.listdir("/proc/self/fd"))
    drafts = [Draft() for _ in range(3_000)]
    for draft in drafts:
        draft.write(b"{}" * 100, 0)
    assert len(os.listdir("/proc/self/fd")) == before
    assert all(draft.read(0, 1000) == b"{}" * 100 for draft in drafts)
    large = Draft()
    large.write(b"x" * 10, 10**6)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    large.close()
    assert len(os.listdir("/proc/self/fd")) == before

"""How calls are counted, and what their percentiles are."""

from __future__ import annotations

import errno
import random
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5fs.errors import NotFoundError
from h5fs.fuse.guard import guarded
from h5fs.fuse.latencies import CallMeter, Latencies

NANOSECONDS = st.integers(0, 2**63 - 1)


@given(st.lists(NANOSECONDS, min_size=1, max_size=50))
def test_percentiles_are_off_by_an_eighth_at_most(times: list[int]) -> None:
    latencies = Latencies()
    for elapsed_ns in times:
        latencies.note(elapsed_ns, 0)
    found = latencies.statistics()
    assert (found.count, found.error_count, found.max_ns) == (len(times), 0, max(times))
    for part, value in ((0.5, found.p50_ns), (0.9, found.p90_ns), (0.99, found.p99_ns)):
        exact = sorted(times)[int(np.ceil(part * len(times))) - 1]
        assert abs(value - exact) <= max(exact / 8, 4)
    assert found.p50_ns <= found.p90_ns <= found.p99_ns <= found.max_ns


def test_without_calls_there_is_nothing_to_tell() -> None:
    meter = CallMeter()
    meter.of("read")
    assert meter.statistics() == {}


def test_a_guarded_call_is_counted_with_its_error() -> None:
    latencies = Latencies()

    def read(path: bytes) -> int:
        if path == b"/none":
            raise NotFoundError("none")
        return 5

    call = guarded(read, latencies)
    assert [call(b"/a"), call(b"/none"), call(b"/b")] == [5, -errno.ENOENT, 5]
    found = latencies.statistics()
    assert (found.count, found.error_count) == (3, 1)


def test_a_count_that_fails_does_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    latencies = Latencies()
    monkeypatch.setattr(Latencies, "note", lambda *_: 1 / 0)
    assert guarded(lambda: 7, latencies)() == 7


def test_calls_of_many_threads_are_counted_nearly_all() -> None:
    latencies = Latencies()

    def call_often(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(5000):
            latencies.note(chance.randrange(10**6), 0)

    threads = [threading.Thread(target=call_often, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 39_000 <= latencies.statistics().count <= 40_000

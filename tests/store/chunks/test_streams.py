"""Who reads on and on, and who does not."""

from __future__ import annotations

import random

import pytest

from h5fs.store.chunks.streams import Streams

MB = 2**20
ARRAY = 1000 * MB


def shares(reads: list[tuple[int, int]], streams: Streams | None = None) -> list[bool]:
    """Return of each read, a start and a size, whether it belongs to a stream."""
    streams = streams or Streams()
    return [streams.note(start, start + size) is not None for start, size in reads]


def in_order(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    return [(at, size) for at in range(start, stop, size)]


@pytest.mark.parametrize("size", [4096, 2**17, MB])
@pytest.mark.parametrize("disorder_bytes", [0, MB, 4 * MB])
@pytest.mark.parametrize("seed", range(5))
def test_who_reads_on_is_a_stream_in_whatever_order(
    size: int, disorder_bytes: int, seed: int
) -> None:
    delay = random.Random(seed)
    reads = in_order(0, 200 * MB, size)
    reads.sort(key=lambda read: read[0] + delay.randint(0, disorder_bytes))
    assert all(shares([(0, 1), *reads]))  # numpy reads the header first


@pytest.mark.parametrize("seed", range(5))
def test_a_reader_whose_reads_overtake_each_other_stays_one_stream(seed: int) -> None:
    order = random.Random(seed)
    reads = in_order(0, 400 * MB, MB)
    for at in range(0, len(reads), 8):  # as many as the kernel has under way
        batch = reads[at : at + 8]
        order.shuffle(batch)
        reads[at : at + 8] = batch
    streams = Streams()
    found = [streams.note(start, start + size) for start, size in reads]
    assert all(found)
    assert len(streams.all()) == 1


def test_who_begins_in_the_middle_is_a_stream_after_a_while() -> None:
    found = shares(in_order(77 * MB, 87 * MB, 2**17))
    assert not any(found[:7])
    assert all(found[7:])


@pytest.mark.parametrize("size", [4096, 2**17])
@pytest.mark.parametrize("extent", [50 * MB, ARRAY])
def test_who_reads_here_and_there_is_none(size: int, extent: int) -> None:
    places = random.Random(0)
    reads = [(places.randrange(1, extent // size) * size, size) for _ in range(3000)]
    assert sum(shares(reads)) < len(reads) // 10


def test_who_reads_the_same_again_and_again_is_none() -> None:
    found = shares(in_order(0, 2 * MB, 2**16) * 20)
    assert not any(found[-100:])


def test_several_readers_of_one_array_are_streams_each() -> None:
    places = [number * ARRAY // 4 for number in range(4)]
    reads = [(place + at, 2**17) for at in range(0, 20 * MB, 2**17) for place in places]
    assert all(shares(reads)[32:])


def test_random_reads_do_not_disturb_a_stream() -> None:
    streams, places = Streams(), random.Random(1)
    for at in range(0, 40 * MB, 2**17):
        assert shares([(at, 2**17)], streams) == [True]
        shares([(places.randrange(100 * MB, ARRAY), 4096) for _ in range(20)], streams)

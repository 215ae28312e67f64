"""Blocks of arrays of a data service: their memory is used again, and never while it is read."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from support.waiting import PATIENCE_SECONDS

from h5fs.errors import UnreadableError
from h5fs.model.objects import Hyperslab
from h5fs.store.hsds import remote_array
from h5fs.store.hsds.remote_array import RemoteArray, RemoteBlocks

ROWS, CHUNK = 40_000, 100
VALUES = np.random.default_rng(7).integers(0, 2**62, ROWS).astype("<i8")


class Service:
    """Sends elements after a moment; counts requests, and fails when it is told to."""

    def __init__(self) -> None:
        self.requests = 0
        self.fails = False
        self.pause_seconds = 0.0
        self._random = random.Random(1)

    def read(self, slab: Hyperslab, buffer: memoryview) -> None:
        self.requests += 1
        time.sleep(self.pause_seconds * self._random.random())
        (start,), (count,) = slab.start, slab.count
        half = len(buffer) // 2
        buffer[:half] = VALUES[start : start + count].tobytes()[:half]
        if self.fails:
            raise UnreadableError("it is gone")
        time.sleep(self.pause_seconds * self._random.random())
        buffer[half:] = VALUES[start : start + count].tobytes()[half:]


@contextmanager
def opened(
    monkeypatch: pytest.MonkeyPatch, limit_bytes: int = 2**20
) -> Iterator[tuple[RemoteArray, RemoteBlocks, Service]]:
    """An array in blocks of two chunks."""
    monkeypatch.setattr(remote_array, "_BLOCK_BYTES", 2 * CHUNK * 8)
    monkeypatch.setattr(remote_array, "_MOST_SPARE_BYTES", 8 * CHUNK * 8)
    service, cache = Service(), RemoteBlocks(limit_bytes)
    with ThreadPoolExecutor(8) as executor:
        yield (
            RemoteArray(3, (ROWS,), 8, (CHUNK,), service.read, executor, cache), cache, service
        )  # fmt: skip


def read(array: RemoteArray, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    array.read_into(offset, memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize("limit_bytes", [1, 10_000, 2**20])
def test_readers_at_once_get_their_bytes_while_blocks_go_and_come(
    monkeypatch: pytest.MonkeyPatch, limit_bytes: int
) -> None:
    wanted = VALUES.tobytes()
    wrong: list[int] = []
    with opened(monkeypatch, limit_bytes) as (array, cache, service):
        service.pause_seconds = 0.0005

        def go_through(seed: int) -> None:
            chance = random.Random(seed)
            offset = chance.randrange(len(wanted) // 2)
            for _ in range(400):
                if chance.random() < 0.02:
                    offset = chance.randrange(len(wanted) - 2000)
                    cache.forget(3)
                size = min(chance.randrange(1, 2000), len(wanted) - offset)
                if read(array, offset, size) != wanted[offset : offset + size]:
                    wrong.append(offset)
                offset += size
                if offset == len(wanted):
                    offset = 0

        threads = [threading.Thread(target=go_through, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
    assert wrong == []


def test_a_stream_asks_once_for_each_block_and_keeps_few(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = VALUES.tobytes()
    with opened(monkeypatch) as (array, cache, service):
        got = b"".join(read(array, at, 400) for at in range(0, len(wanted), 400))
        assert got == wanted
        assert service.requests <= len(wanted) // (2 * CHUNK * 8) + 8
        assert cache.used_bytes <= 10 * 2 * CHUNK * 8


def test_a_block_that_did_not_come_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = VALUES.tobytes()
    with opened(monkeypatch) as (array, cache, service):
        assert read(array, 0, 400) + read(array, 400, 400) == wanted[:800]
        service.fails = True
        cache.forget(3)
        for at in range(800, 80_000, 400):
            with pytest.raises(UnreadableError):
                read(array, at, 400)
        service.fails = False
        assert read(array, 800, 40_000) == wanted[800:40_800]

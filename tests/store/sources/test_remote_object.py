"""One version of a remote object as a source: right bytes, and few requests."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.object_server import ObjectServer
from support.waiting import PATIENCE_SECONDS

from h5fs.store.sources.cached_bytes import BLOCK_BYTES, CachedBytes
from h5fs.store.sources.interface import Source, read_bytes
from h5fs.store.sources.remote_object import RemoteObject

MIB = 2**20
CONTENT = random.Random(1).randbytes(12 * MIB + 12345)
Open = Callable[..., RemoteObject]


@pytest.fixture
def name(server: ObjectServer) -> str:
    (server.folder / "a.h5").write_bytes(CONTENT)
    return "a.h5"


@pytest.mark.parametrize(
    "offset, size",
    [(0, 10), (5 * MIB - 3, 4096), (3 * MIB, 4 * MIB + 1), (len(CONTENT) - 3, 3), (7, 0)],
)
def test_bytes_are_those_of_the_object(
    open_remote: Open, name: str, offset: int, size: int
) -> None:
    source: Source = open_remote(name)
    assert source.size_bytes == len(CONTENT)
    buffer = bytearray(b"x" * (size + 2))
    assert source.read_into(memoryview(buffer)[1:-1], offset) == size
    assert buffer == b"x" + CONTENT[offset : offset + size] + b"x"


@pytest.mark.parametrize("offset", [len(CONTENT) - 5, len(CONTENT), len(CONTENT) + 100])
def test_less_is_read_where_the_object_ends(open_remote: Open, name: str, offset: int) -> None:
    assert read_bytes(open_remote(name), offset, 20) == CONTENT[offset:]


@pytest.mark.parametrize("size", [1, BLOCK_BYTES, MIB - 1, MIB, MIB + 1])
def test_objects_of_every_size_are_read(open_remote: Open, server: ObjectServer, size: int) -> None:
    (server.folder / "b.h5").write_bytes(CONTENT[:size])
    source = open_remote("b.h5")
    assert read_bytes(source, 0, size + 1) == CONTENT[:size]
    assert server.counts()["requests"] == 1 + (size > MIB)


def test_one_request_opens_and_brings_the_first_mebibyte(
    open_remote: Open, server: ObjectServer, name: str
) -> None:
    source = open_remote(name)
    assert read_bytes(source, 0, MIB) == CONTENT[:MIB]
    (request,) = server.counts()["seen"]
    assert request[0] == "GET"
    assert request[2]["range"] == f"bytes=0-{MIB - 1}"


def test_ranges_known_beforehand_come_at_once(
    open_remote: Open, server: ObjectServer, name: str
) -> None:
    source = open_remote(name)
    server.set(latency=0.1)
    source.ensure([(at * MIB, at * MIB + 10) for at in range(2, 12)])
    counts = server.counts()
    assert counts["requests"] == 1 + 10
    assert counts["most_in_flight"] == 10
    assert counts["bytes"] == MIB + 10 * BLOCK_BYTES
    for at in range(2, 12):
        assert read_bytes(source, at * MIB, 10) == CONTENT[at * MIB : at * MIB + 10]
    assert server.counts()["requests"] == 11


def test_a_large_range_comes_in_parts_and_never_more_than_allowed_at_once(
    open_remote: Open, server: ObjectServer, name: str
) -> None:
    source = open_remote(name, streams=4)
    server.set(latency=0.05)
    source.ensure([(0, len(CONTENT))])
    counts = server.counts()
    assert counts["bytes"] == len(CONTENT)
    assert counts["most_in_flight"] == 4
    assert counts["requests"] <= 1 + 5
    assert read_bytes(source, 0, len(CONTENT)) == CONTENT


def test_what_is_asked_for_beside_much_else_comes_in_fewer_parts(
    open_remote: Open, server: ObjectServer, name: str
) -> None:
    source = open_remote(name, streams=2)
    server.set(latency=0.2)
    source.fetch_ahead([(2 * MIB, 8 * MIB)])
    source.fetch_ahead([(8 * MIB, 12 * MIB)])
    source.ensure([(2 * MIB, 12 * MIB)])
    assert server.counts()["requests"] == 1 + 2 + 1  # of the last four no second one is needed


def test_neighbours_come_in_one_request(open_remote: Open, server: ObjectServer, name: str) -> None:
    source = open_remote(name)
    near = [4 * MIB + at * 100_000 for at in range(5)]
    source.ensure([(at, at + 10) for at in near])
    assert server.counts()["requests"] == 2


def test_metadata_come_in_larger_units(open_remote: Open, server: ObjectServer, name: str) -> None:
    source = open_remote(name)
    source.ensure([(5 * MIB + 7, 5 * MIB + 8)], unit_bytes=MIB)
    source.ensure([(5 * MIB, 6 * MIB)])
    counts = server.counts()
    assert counts["requests"] == 2
    assert counts["bytes"] == 2 * MIB


def test_what_many_want_is_asked_for_once(
    open_remote: Open, server: ObjectServer, name: str
) -> None:
    source = open_remote(name)
    server.set(latency=0.2)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(read_bytes(source, 4 * MIB, 1000)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert found == [CONTENT[4 * MIB : 4 * MIB + 1000]] * 8
    assert server.counts()["requests"] == 2


def test_what_is_fetched_ahead_is_waited_for_and_not_asked_for_again(
    open_remote: Open, server: ObjectServer, name: str
) -> None:
    source = open_remote(name)
    server.set(latency=0.2)
    source.fetch_ahead([(2 * MIB, 10 * MIB)])
    source.fetch_ahead([(2 * MIB, 10 * MIB)])
    assert read_bytes(source, 2 * MIB, 8 * MIB) == CONTENT[2 * MIB : 10 * MIB]
    assert server.counts()["bytes"] == 9 * MIB


def test_who_is_in_need_goes_before_what_is_ahead(
    open_remote: Open, server: ObjectServer, name: str
) -> None:
    source = open_remote(name, streams=1)
    server.set(latency=0.05)
    source.fetch_ahead([(at * MIB, at * MIB + 1) for at in range(2, 10)])
    assert read_bytes(source, 10 * MIB, 10) == CONTENT[10 * MIB : 10 * MIB + 10]
    source.ensure([(9 * MIB, 9 * MIB + 1)])
    ranges = [request[2]["range"] for request in server.counts()["seen"]]
    assert ranges.index(f"bytes={10 * MIB}-{10 * MIB + BLOCK_BYTES - 1}") <= 2
    assert ranges.index(f"bytes={9 * MIB}-{9 * MIB + BLOCK_BYTES - 1}") <= 5


def test_a_process_that_may_only_read_has_the_same_bytes(open_remote: Open, name: str) -> None:
    source = open_remote(name)
    data, presence = source.open_read_only()
    asked = []

    def fetch(ranges: object, unit_bytes: int) -> None:
        asked.append((ranges, unit_bytes))
        source.ensure(ranges, unit_bytes=unit_bytes)  # type: ignore[arg-type]

    worker: Source = CachedBytes(
        data, presence, size_bytes=source.size_bytes, version=source.version, fetch=fetch
    )
    try:
        assert read_bytes(worker, 0, 100) == CONTENT[:100]
        assert not asked
        assert read_bytes(worker, 7 * MIB, 100) == CONTENT[7 * MIB : 7 * MIB + 100]
        assert asked == [([(7 * MIB, 7 * MIB + 100)], 1)]
        with pytest.raises(OSError):
            os.pwrite(data, b"x", 0)
        with pytest.raises(OSError):
            os.pwrite(presence, b"x", 0)
    finally:
        os.close(data)
        os.close(presence)


def test_the_next_process_finds_in_the_cache_what_was_read(
    open_remote: Open, server: ObjectServer, name: str
) -> None:
    source = open_remote(name)
    source.ensure([(0, len(CONTENT))])
    source.close()
    server.reset()
    again = open_remote(name)
    assert read_bytes(again, 0, len(CONTENT)) == CONTENT
    assert server.counts()["requests"] == 1


def test_two_processes_share_what_either_has_read(
    open_remote: Open, server: ObjectServer, name: str
) -> None:
    one, two = open_remote(name), open_remote(name)
    one.ensure([(2 * MIB, 6 * MIB)])
    server.reset()
    assert read_bytes(two, 2 * MIB, 4 * MIB) == CONTENT[2 * MIB : 6 * MIB]
    assert server.counts()["requests"] == 0


def test_blocks_that_another_process_brings_meanwhile_are_not_asked_for(
    open_remote: Open, server: ObjectServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = open_remote(name), open_remote(name)
    look = one._bytes.missing_blocks
    range_ = (4 * MIB, 9 * MIB)

    def look_slowly(*arguments: object) -> object:
        found = look(*arguments)  # type: ignore[arg-type]
        two.ensure([range_])
        return found

    monkeypatch.setattr(one._bytes, "missing_blocks", look_slowly)
    assert read_bytes(one, 4 * MIB, 5 * MIB) == CONTENT[4 * MIB : 9 * MIB]


def test_reads_and_misses_are_counted(open_remote: Open, name: str) -> None:
    source = open_remote(name)
    for at in (0, 3 * MIB, 3 * MIB + 5, 0):
        source.ensure([(at, at + 10)])
    assert (source.counts.reads, source.counts.misses) == (4, 1)


def test_the_cache_can_be_read_by_its_owner_alone(
    open_remote: Open, name: str, cache: Path
) -> None:
    before = os.umask(0)
    try:
        open_remote(name)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o7777 for path in [cache, *cache.rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert not any("a.h5" in path.name for path in modes)

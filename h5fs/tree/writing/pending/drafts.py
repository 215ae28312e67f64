"""Drafts: what programs have written to a file and the HDF5 file does not have yet.

A draft is an unlinked file on disk with the bytes that were written, over the content that was
there before, if it goes on from that. A small one is in memory: thousands that wait would take as
many descriptors. Not thread-safe: the tree's lock is held around every call.
"""

from __future__ import annotations

import errno
import os
import tempfile

from h5fs.errors import NoSpaceError, UnreadableError
from h5fs.store.log.runs import RunIndex
from h5fs.tree.contents.content import Content
from h5fs.tree.writing.pending.direct_arrays import DirectArray

_COPY_BYTES = 2**20
_MOST_BYTES_IN_MEMORY = 2**15


class Draft:
    """A file of ``size_bytes``: what was written, else what ``base`` has there, else zeros."""

    def __init__(self, base: Content | None = None) -> None:
        self._base = base
        self.is_based = base is not None
        """Whether it goes on from what was there before, even if it has all of that by now."""
        self._base_stop = base.size_bytes if base is not None else 0
        self.size_bytes = self._base_stop
        self._descriptor = -1
        self._memory = bytearray()  # what was written, as long as there is no descriptor
        self._written = RunIndex(page_bytes=1)  # where it is in the draft, twice
        self._direct: DirectArray | None = None

    @property
    def direct(self) -> DirectArray | None:
        """Where some of the data went instead of to the file on disk."""
        return self._direct

    def send_to(self, direct: DirectArray) -> None:
        """Let a direct array have its data, those that are here already first."""
        start, stop = direct.start, min(direct.stop, self.size_bytes)
        data = memoryview(self.read(start, max(stop - start, 0)))
        if data:
            direct.write(data, start)
        self._direct = direct

    @property
    def descriptor(self) -> int:
        """The file on disk; all of the draft is in it after ``complete``."""
        if self._descriptor < 0:
            # /var/tmp is for what is large, where /tmp may be memory.
            folder = os.environ.get("TMPDIR") or "/var/tmp"
            with (
                _telling("no room for what is written"),
                tempfile.TemporaryFile(prefix="h5fs-", dir=folder) as file,
            ):
                _write_all(file.fileno(), self._memory, 0)
                self._descriptor = os.dup(file.fileno())
            self._memory = bytearray()
        return self._descriptor

    def lend(self) -> tuple[int, bytes | None]:
        """Return the file on disk with all of the draft in it; for a small one -1 and its bytes."""
        is_here = self._descriptor < 0 and self._direct is None and self._base is None
        if is_here and self.size_bytes <= _MOST_BYTES_IN_MEMORY:
            return -1, self.read(0, self.size_bytes)
        self.complete()
        return self.descriptor, None

    @property
    def written_bytes(self) -> int:
        """How many bytes were written, wherever they went; from any thread, without a lock."""
        return self._written.page_count

    @property
    def is_cut(self) -> bool:
        """Whether something of what was there before is gone, or was never taken over."""
        return self._base is None or self._base_stop < self._base.size_bytes

    @property
    def has_base(self) -> bool:
        """Whether the draft goes on from what was there before."""
        return self._base is not None

    def write(self, data: memoryview | bytes, offset: int) -> None:
        """Write bytes. Raises ``NoSpaceError``."""
        view, at = memoryview(data), offset
        direct = self._direct
        if direct is not None and offset < direct.stop and offset + len(view) > direct.start:
            before = view[: max(direct.start - offset, 0)]
            after = view[max(direct.stop - offset, 0) :]
            inside = view[len(before) : len(view) - len(after)]
            direct.write(inside, offset + len(before))
            self._write_here(before, offset)
            self._write_here(after, direct.stop)
        else:
            self._write_here(view, offset)
        at = offset + len(view)
        self._note(offset, at)
        self.size_bytes = max(self.size_bytes, at)

    def truncate(self, size: int) -> None:
        """Cut the file, or let it grow by zeros."""
        if size < self.size_bytes:
            self.leave_direct_array()
            if self._descriptor >= 0:
                os.ftruncate(self._descriptor, size)
            del self._memory[size:]
            self._base_stop = min(self._base_stop, size)
            self._written.cut(size)
            if not self._base_stop:
                self._base = None
            self.is_based &= size > 0
        self.size_bytes = size

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` on; return how much, less only at the end of the file."""
        size = max(min(len(buffer), self.size_bytes - offset), 0)
        at, stop = offset, offset + size
        while at < stop:
            part_stop, is_written = self._part_at(at, stop)
            part = buffer[at - offset : part_stop - offset]
            if is_written:
                self._read_written(part, at)
            elif at < self._base_stop and self._base is not None:
                part = part[: self._base_stop - at]
                if self._base.read_into(part, at) != len(part):
                    raise UnreadableError("what was there before has become shorter")
                part_stop = at + len(part)
            else:
                part[:] = bytes(len(part))
            at = part_stop
        return size

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes at ``offset``."""
        stop = min(offset + size, self.size_bytes)
        is_here = self._descriptor < 0 and self._direct is None and self._base is None
        if is_here and stop <= len(self._memory):
            return bytes(self._memory[offset:stop])  # where nothing was written are zeros
        buffer = bytearray(max(min(size, self.size_bytes - offset), 0))
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def complete_changes(self, start: int, item_bytes: int) -> tuple[tuple[int, int], ...]:
        """Return where the draft is not what its base shows, in whole elements from ``start`` on.

        There the file on disk has all bytes then, and it is as long as the draft.
        """
        self.leave_direct_array()
        changed = [(max(a, start), b) for a, b, _ in self._written if b > start]
        if self._base_stop < self.size_bytes:
            changed.append((max(self._base_stop, start), self.size_bytes))
        ranges: list[tuple[int, int]] = []
        for first, last in sorted(changed):
            low = start + (first - start) // item_bytes * item_bytes
            high = min(start + -(-(last - start) // item_bytes) * item_bytes, self.size_bytes)
            # Of each, also of those that are one range now, both ends may be half an element.
            for edge in (low, high - item_bytes):
                whole = self.read(edge, min(item_bytes, self.size_bytes - edge))
                self._write_here(memoryview(whole), edge)
            if ranges and low <= ranges[-1][1]:
                ranges[-1] = (ranges[-1][0], max(high, ranges[-1][1]))
            else:
                ranges.append((low, high))
        with _telling("no room for what is written"):
            os.ftruncate(self.descriptor, self.size_bytes)
        return tuple(ranges)

    def tail(self) -> bytes:
        """Return what follows the direct array's data, which are zeros where none were written."""
        direct = self._direct
        assert direct is not None
        at = direct.start
        while at < direct.stop:
            stop, is_written = self._part_at(at, direct.stop)
            if not is_written:
                direct.clear(at, stop)
            at = stop
        return self.read(direct.stop, self.size_bytes - direct.stop)

    def end_direct_array(self) -> None:
        """Forget the direct array: its data have become a dataset's."""
        self._direct = None

    def leave_direct_array(self) -> None:
        """Take the direct array's data back: they do not become a dataset's where they are."""
        direct = self._direct
        if direct is None:
            return
        buffer = memoryview(bytearray(_COPY_BYTES))
        for start, stop, _ in self._written:
            for at in range(max(start, direct.start), min(stop, direct.stop), _COPY_BYTES):
                part = buffer[: min(_COPY_BYTES, stop - at, direct.stop - at)]
                direct.read_into(part, at)
                self._write_here(part, at)
        self._direct = None  # only now: what fails on the way leaves the data where they are
        direct.drop()

    def complete(self) -> None:
        """Put all of the draft into the file on disk."""
        self.leave_direct_array()
        buffer = memoryview(bytearray(_COPY_BYTES))
        at = 0
        with _telling("no room for what is written"):
            while at < self._base_stop:
                stop, is_written = self._part_at(at, min(at + _COPY_BYTES, self._base_stop))
                if not is_written:
                    count = self.read_into(buffer[: stop - at], at)
                    _write_all(self.descriptor, buffer[:count], at)
                at = stop
            os.ftruncate(self.descriptor, self.size_bytes)
        self._written.clear()
        self._note(0, self.size_bytes)
        self._base, self._base_stop = None, 0

    def close(self) -> None:
        """Give the disk space back."""
        if self._direct is not None:
            self._direct.drop()
            self._direct = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._memory = bytearray()

    def _write_here(self, view: memoryview, at: int) -> None:
        if not view:
            return
        stop = at + len(view)
        if self._descriptor < 0 and stop <= _MOST_BYTES_IN_MEMORY:
            self._memory += bytes(max(stop - len(self._memory), 0))
            self._memory[at:stop] = view
            return
        with _telling("no room for what is written"):
            _write_all(self.descriptor, view, at)

    def _read_written(self, part: memoryview, at: int) -> None:
        direct = self._direct
        if direct is not None and at < direct.stop and at + len(part) > direct.start:
            before = part[: max(direct.start - at, 0)]
            after = part[max(direct.stop - at, 0) :]
            direct.read_into(part[len(before) : len(part) - len(after)], at + len(before))
            if before:
                self._read_here(before, at)
            if after:
                self._read_here(after, direct.stop)
            return
        self._read_here(part, at)

    def _read_here(self, part: memoryview, at: int) -> None:
        if self._descriptor < 0:
            part[:] = self._memory[at : at + len(part)]
            return
        count = os.preadv(self._descriptor, [part], at)
        if count != len(part):
            raise UnreadableError("the draft has become shorter")

    def _part_at(self, at: int, stop: int) -> tuple[int, bool]:
        """Return where the part that ``at`` is in ends, and whether it was written."""
        run = self._written.next_run(at)
        if run is None:
            return stop, False
        start, end = run
        return (min(end, stop), True) if start <= at else (min(start, stop), False)

    def _note(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        written = self._written
        if written and start == written.stop:
            written.extend(stop)  # one after another, as most programs write
            return
        known = sum(end - begin for begin, end, _ in written.overlap(start, stop))
        if known < stop - start:
            written.insert(start, stop, start)


def _write_all(descriptor: int, data: memoryview | bytearray, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, at)
        view, at = view[count:], at + count


class _telling:
    """Turn an ``OSError`` of the disk that drafts are on into ours."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError(f"{self._what}: {error.strerror}") from None
            raise UnreadableError(f"{self._what}: {error.strerror}") from None

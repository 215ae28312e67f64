"""Changes of files that the HDF5 file has, which their last `close` refused, or a `rename`.

The HDF5 file keeps what it had, and the draft goes; where a `rename` was refused, it goes when the
program removes its temporary file. Shells pass over an error of `close`, so that whoever unmounts
is told of each name that did not get another content since. Not thread-safe: under the tree's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from h5fs.errors import H5fsError
from h5fs.tree.writing.pending.writable_file import WritableFile

_MOST_NAMES: Final = 100
_MOST_BYTES_OF_ONE: Final = 2**20
_MOST_BYTES: Final = 16 * 2**20


@dataclass(frozen=True)
class RefusedDraft:
    """What was written to the file at a path, and why it was refused; None: it was not kept.

    ``is_new``: nothing was at the path.
    """

    path: bytes
    refusal: str
    data: bytes | None
    is_new: bool = False

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` of what was kept; return how much."""
        part = (self.data or b"")[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)


class RefusedDrafts:
    """The last refused change of each path, of the last ``most_names`` paths.

    Of these the last ``most_bytes`` of what was written are kept, whole files alone.
    """

    def __init__(self, most_names: int = _MOST_NAMES, most_bytes: int = _MOST_BYTES) -> None:
        self._most_names = most_names
        self._most_bytes = most_bytes
        self._changes: dict[bytes, RefusedDraft] = {}  # the one that was refused last is the last

    def note(
        self, file: WritableFile, refusal: str, path: bytes | None = None, *, is_new: bool = False
    ) -> None:
        """Remember what was written to a file, which is dropped next: for another path, if its
        `rename` to that was refused. Nothing is lost with an empty one, as a redirection leaves it
        of a command that fails."""
        if not file.size_bytes:
            return
        path = file.path if path is None else path
        self._changes.pop(path, None)
        self._changes[path] = RefusedDraft(path, refusal, _read(file), is_new)
        if len(self._changes) > self._most_names:
            del self._changes[next(iter(self._changes))]
        self._keep_last_bytes()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._changes)

    def forget(self, path: bytes) -> None:
        """A path has another content now, which was accepted, or is gone, or another file's."""
        self._changes.pop(path, None)

    def move(self, old: bytes, new: bytes) -> None:
        """Let the files at a path, and below it, be at another one, whose files are gone."""
        if not self._changes:
            return
        moved = self._take(old)
        self._take(new)
        for change in moved:
            path = new + change.path[len(old) :]
            self._changes[path] = replace(change, path=path)

    def left(self, is_there: Callable[[bytes], bool]) -> list[RefusedDraft]:
        """Return the changes of files that are there still: attributes go with their object."""
        return [change for change in self._changes.values() if _may_be_there(change, is_there)]

    def _take(self, path: bytes) -> list[RefusedDraft]:
        below = path + b"/"
        taken = [each for each in self._changes if each == path or each.startswith(below)]
        return [self._changes.pop(each) for each in taken]

    def _keep_last_bytes(self) -> None:
        room = self._most_bytes
        for path, change in reversed(self._changes.items()):
            room -= len(change.data or b"")
            if room < 0 and change.data is not None:
                self._changes[path] = replace(change, data=None)


def _read(file: WritableFile) -> bytes | None:
    """Return what was written; None where that is too large, cannot be read, or is not whole."""
    if file.size_bytes > _MOST_BYTES_OF_ONE or file.is_mixed:
        return None
    data = bytearray(file.size_bytes)
    try:
        count = file.read_into(memoryview(data), 0)
    except H5fsError:
        return None
    return bytes(data[:count])


def _may_be_there(change: RefusedDraft, is_there: Callable[[bytes], bool]) -> bool:
    try:
        if change.is_new:
            return is_there(change.path.rpartition(b"/")[0] or b"/")
        return is_there(change.path)
    except H5fsError:  # the HDF5 file cannot be read any more
        return True

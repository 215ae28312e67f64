"""What follows the end of a log's chain: a commit that a crash cut off, or damage.

A crash leaves an unfinished end. That is no loss, since no program was told that it was committed.
Three things are damage, since no crash leaves them:

- behind the broken place, a whole commit of the same boot. As long as the same kernel runs, the log
  has everything that was written, up to where the last write was cut off.
- behind the broken place, a durable commit with another whole frame right after it. Frames follow a
  durable commit only once fsync has returned, when everything before it was on the disk.
- a broken place that is not the file's end, in a log that was begun, or whose last good commit was
  made, under the same boot.

A frame behind a broken place is known by its checksum, which begins with the one that the frame
before it has stored. Changes nothing. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from h5fs.store.log import format as log_format
from h5fs.store.log.format import CommitHead, PageHead
from h5fs.store.log.system_calls import SystemCalls

_PIECE_BYTES = 2**20
_DEFAULT_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class LogRest:
    """What follows the chain: ``size_bytes`` from ``start`` on, an offset in the log.

    ``commits``: how many whole commits are in there, which cannot be brought into the file, since
    frames before them are damaged. ``is_damage``: no crash can have left this.
    """

    start: int = 0
    size_bytes: int = 0
    commits: int = 0
    is_damage: bool = False


NO_REST = LogRest()


@dataclass(slots=True)
class _Found:
    """Whole commits behind a broken place. ``is_followed``: one is durable, and a frame follows."""

    commits: list[CommitHead] = field(default_factory=list)
    is_followed: bool = False


def survey_rest(
    log: SystemCalls,
    start: int,
    size: int,
    page_bytes: int | None,
    boot: bytes,
    *,
    is_same_boot: bool,
) -> LogRest:
    """Look at what a log of ``size`` bytes has from ``start`` on, where its chain ends.

    ``page_bytes``: None where the header is damaged. ``boot``: the digest of ours.
    ``is_same_boot``: by what holds of the log, all that follows was written under it. Raises
    ``OSError``.
    """
    if size <= start:
        return LogRest(start)
    pages = page_bytes or _DEFAULT_PAGE_BYTES
    known_boot = boot if any(boot) else None
    found = _find_commits(log, start, size, pages)
    is_damage = (
        found.is_followed
        or any(each.boot == known_boot for each in found.commits)
        or (is_same_boot and not _is_cut_off(log, start, size, pages))
    )
    return LogRest(start, size - start, len(found.commits), is_damage)


def _is_cut_off(log: SystemCalls, start: int, size: int, page_bytes: int) -> bool:
    """Whether the file ends within the frame that begins at ``start``."""
    head = log.pread(log_format.MAX_FRAME_HEAD_BYTES, start)
    frame_bytes = log_format.frame_bytes(head, page_bytes)
    return frame_bytes is None or start + frame_bytes > size


def _find_commits(log: SystemCalls, start: int, size: int, page_bytes: int) -> _Found:
    found = _Found()
    at = start
    for offset in _find_tags(log, start, size):
        if offset < at:
            continue  # within a frame that was whole
        for chain in _chains_before(log, offset, page_bytes):
            stop = _walk(log, offset, chain, page_bytes, found)
            if stop > offset:
                at = stop
                break
    return found


def _walk(log: SystemCalls, offset: int, chain: int, page_bytes: int, found: _Found) -> int:
    """Go along whole frames from ``offset``; return where they end."""
    before: CommitHead | PageHead | None = None
    while True:
        head, stop = read_frame(log, offset, chain, page_bytes)
        if head is None:
            return offset
        if isinstance(before, CommitHead) and before.is_durable:
            found.is_followed = True
        if isinstance(head, CommitHead):
            found.commits.append(head)
        before, offset, chain = head, stop, head.chain


def read_frame(
    log: SystemCalls, offset: int, chain: int, page_bytes: int
) -> tuple[CommitHead | PageHead | None, int]:
    """Return the whole frame at ``offset`` and where the next one is; None where there is none.

    Raises ``OSError``.
    """
    data = log.pread(log_format.MAX_FRAME_HEAD_BYTES, offset)
    head = log_format.unpack_head(data, chain)
    if not isinstance(head, PageHead):
        return head, offset + log_format.COMMIT_FRAME_BYTES
    size = head.page_count * page_bytes
    start = offset + log_format.PAGE_FRAME_BYTES
    pages = log.pread(size, start) if size <= log_format.MAX_RUN_BYTES else b""
    wanted = log_format.continue_page_checksum(data, pages, chain)
    if len(pages) != size or wanted != head.chain:
        return None, offset
    return head, start + size


def _find_tags(log: SystemCalls, start: int, size: int) -> Iterator[int]:
    """Yield the offsets where a frame may begin, after ``start``."""
    overlap = log_format.TAG_BYTES - 1
    for piece in range(start + 1, size, _PIECE_BYTES):
        data = log.pread(_PIECE_BYTES + overlap, piece)
        places = {at for tag in log_format.TAGS for at in _find_all(data, tag)}
        yield from (piece + at for at in sorted(places))


def _find_all(data: bytes, tag: bytes) -> Iterator[int]:
    at = data.find(tag)
    while at >= 0:
        yield at
        at = data.find(tag, at + 1)


def _chains_before(log: SystemCalls, offset: int, page_bytes: int) -> Iterator[int]:
    """Yield the checksums that the frame before ``offset``, or the header, may have stored."""
    head = log.pread(log_format.MAX_FRAME_HEAD_BYTES, offset)
    if not log_format.is_likely_frame(head, page_bytes):
        return
    reach = log_format.MAX_RUN_BYTES + log_format.PAGE_FRAME_BYTES
    first = max(0, offset - reach)
    before = log.pread(offset - first, first)
    is_commit = head.startswith(log_format.COMMIT_TAG)
    yield from log_format.chains_before(before, page_bytes, is_commit=is_commit)

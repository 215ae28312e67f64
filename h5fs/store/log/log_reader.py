"""Reads a log: which frames are whole, which commits count, whether the log is this main file's.

Changes nothing. Not thread-safe.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from h5fs.errors import LogMismatchError
from h5fs.store.log import format as log_format
from h5fs.store.log.format import (
    MAX_FILE_BYTES,
    PAGE_FRAME_BYTES,
    PAGE_SIZES,
    SECTOR_BYTES,
    CommitHead,
    Header,
)
from h5fs.store.log.log_rest import NO_REST, LogRest, read_frame, survey_rest
from h5fs.store.log.runs import RunIndex
from h5fs.store.log.system_calls import SystemCalls, read_exactly

_ADVICE = (
    "Give the file that the log belongs to its name back; or, when what the log holds is not "
    "needed, move the log away."
)


@dataclass(slots=True)
class Commit:
    """A commit and its frames: first page, how many, where their bytes are in the log."""

    head: CommitHead
    frames: list[tuple[int, int, int]]
    stop_offset: int


@dataclass(slots=True)
class LogContents:
    """A log: all commits of its chain, of which the first ``counted`` count.

    ``rest``: what follows the chain.
    """

    header: Header
    commits: list[Commit] = field(default_factory=list)
    counted: int = 0
    rest: LogRest = NO_REST

    @property
    def last(self) -> Commit | None:
        """The last commit that counts, if there is one: the state of the file."""
        return self.commits[self.counted - 1] if self.counted else None

    @property
    def length(self) -> int:
        """The file's length in bytes, as committed."""
        return self.last.head.length if self.last else self.header.base_length

    def index_pages(self) -> RunIndex:
        """Return where the pages are that the counting commits hold."""
        page_bytes = self.header.page_bytes
        index = RunIndex(page_bytes)
        for commit in self.commits[: self.counted]:
            for first, count, offset in commit.frames:
                index.insert(first, first + count, offset)
            index.cut(-(-commit.head.length // page_bytes))
        return index


def read_log(log: SystemCalls, boot_id: bytes) -> LogContents | None:
    """Return what a log holds, or None when it holds nothing: it is empty or was never whole.

    In the second case ``read_headless`` tells what it has instead.

    Raises ``OSError``, and ``LogMismatchError`` for what is no log, or another version's.
    """
    size = log.size()  # asked first: a log that is being written may grow meanwhile
    header = _read_header(log)
    if header is None:
        return None
    _check_numbers(header.base_length)
    contents = LogContents(header)
    stop = _read_frames(log, contents)
    boot = log_format.digest_boot_id(boot_id)
    contents.counted = _count_commits(contents.commits, boot)
    is_ours = log_format.is_begun_in(header.salt, boot)
    if any(boot) and contents.commits:
        is_ours |= contents.commits[-1].head.boot == boot
    contents.rest = survey_rest(log, stop, size, header.page_bytes, boot, is_same_boot=is_ours)
    return contents


def read_headless(log: SystemCalls, boot_id: bytes) -> LogRest:
    """Return what is in a log without a whole header. Raises ``OSError``."""
    first, size = log.pread(SECTOR_BYTES, 0), log.size()
    named = log_format.peek_header(first)
    boot = log_format.digest_boot_id(boot_id)
    page_bytes = named[1] if named and named[1] in PAGE_SIZES else None
    is_cut_off = page_bytes is not None and size < log_format.header_bytes(page_bytes)
    is_ours = named is not None and log_format.is_begun_in(log_format.peek_salt(first), boot)
    return survey_rest(log, 0, size, page_bytes, boot, is_same_boot=is_ours and not is_cut_off)


def _read_header(log: SystemCalls) -> Header | None:
    first = log.pread(SECTOR_BYTES, 0)
    if not any(first):
        return None  # a power cut kept it from the disk
    named = log_format.peek_header(first)
    if named is None:
        raise LogMismatchError("what lies in the log's place is not a log of h5fs. " + _ADVICE)
    version, page_bytes = named
    if version != log_format.VERSION:
        raise LogMismatchError(
            f"the log has version {version}, this h5fs knows version {log_format.VERSION}. "
            "Open the file with the version of h5fs that wrote the log."
        )
    if page_bytes not in PAGE_SIZES:
        raise LogMismatchError("the log's header is damaged. " + _ADVICE)
    return log_format.unpack_header(log.pread(log_format.header_bytes(page_bytes), 0))


def _read_frames(log: SystemCalls, contents: LogContents) -> int:
    """Add the commits of the longest chain that holds; return where it ends."""
    page_bytes = contents.header.page_bytes
    offset, chain = contents.header.size_bytes, contents.header.chain
    frames: list[tuple[int, int, int]] = []
    while True:
        head, stop = read_frame(log, offset, chain, page_bytes)
        if head is None:
            return offset
        if isinstance(head, CommitHead):
            _check_numbers(max(head.length, head.main_bytes))
            if head.sequence != len(contents.commits) + 1:
                return offset
            contents.commits.append(Commit(head, frames, stop))
            frames = []
        else:
            _check_numbers((head.first_page + head.page_count) * page_bytes)
            frames.append((head.first_page, head.page_count, offset + PAGE_FRAME_BYTES))
        offset, chain = stop, head.chain


def _check_numbers(most: int) -> None:
    """Raise ``LogMismatchError`` where a whole frame says what no file can have."""
    if most > MAX_FILE_BYTES:
        raise LogMismatchError(
            "the log says of the file what no file can have: another program has written it. "
            + _ADVICE
        )


def _count_commits(commits: list[Commit], boot: bytes) -> int:
    durable = [i for i, commit in enumerate(commits) if commit.head.is_durable]
    counted = durable[-1] + 1 if durable else 0
    while any(boot) and counted < len(commits) and commits[counted].head.boot == boot:
        counted += 1
    return counted


def check_main(main: SystemCalls, log: SystemCalls, contents: LogContents) -> None:
    """See that the main file is the one that the log was begun for.

    A checkpoint that was cut off leaves any mixture of sectors of the base first page and of the
    versions of it that were committed; nothing else ever writes there. Raises ``OSError``,
    ``LogMismatchError``.
    """
    least = contents.header.base_length
    if contents.last:
        least = min(contents.last.head.main_bytes, contents.length)
    size = main.size()
    if size < least:
        raise LogMismatchError(
            f"the file has {size} bytes, and with this log it must have {least} or more. {_ADVICE}"
        )
    found = read_exactly(main, contents.header.page_bytes, 0)
    versions = [contents.header.first_page]
    for start in range(0, len(found), SECTOR_BYTES):
        sector = slice(start, start + SECTOR_BYTES)
        if found[sector] == versions[0][sector]:
            continue
        if len(versions) == 1:
            versions = _read_first_page_versions(log, contents)
        if all(found[sector] != version[sector] for version in versions):
            raise LogMismatchError(
                "the log belongs to another file, or to an older state. " + _ADVICE
            )


def _read_first_page_versions(log: SystemCalls, contents: LogContents) -> list[bytes]:
    """Return all that the first page may have been, also cut off at a committed length."""
    page_bytes = contents.header.page_bytes
    commits = contents.commits[: contents.counted]
    frames = [frame for commit in commits for frame in commit.frames]
    versions = [log.pread(page_bytes, offset) for first, _, offset in frames if first == 0]
    versions.insert(0, contents.header.first_page)
    lengths = {commit.head.length for commit in commits if commit.head.length < page_bytes}
    cut = [page[:length].ljust(page_bytes, b"\0") for page in versions for length in lengths]
    return versions + cut

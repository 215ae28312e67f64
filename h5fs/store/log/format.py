"""The format of a redo log. Knows no files; all functions are pure.

A log is a header and then frames, without gaps; all integers are little-endian.

Header, 48 bytes and a page::

    8   magic
    4   version (1)
    4   page size in bytes
    16  salt: 8 random bytes, new for each log, and the first 8 of the digest of the boot id of the
        kernel that ran (or all 16 random, where that is not known)
    8   base length: the main file's size in bytes when the log was begun
    4   checksum of the 40 bytes before it and of the page after it
    4   zeros
    P   the main file's first page when the log was begun, zeros past its end

Page frame, 20 bytes and the pages: what the main file holds in consecutive pages::

    4   "PAGE"
    4   how many pages
    8   the number of the first one
    4   checksum of the 16 bytes before it and of the pages after it

Commit frame, 52 bytes: makes all frames since the commit before it count::

    4   "DONE"
    4   kind: 1 durable, 2 soft
    8   sequence number: 1 for the first commit of a log, then one more for each
    8   the file's length in bytes; pages at or past its end, of earlier frames too, are void
    16  digest of the boot id of the kernel that ran
    8   bytes of the main file that were there: it cannot have become shorter than these, or than
        the length
    4   checksum of the 48 bytes before it

A checksum is the CRC-32 of zlib, started with the checksum of the frame before it, the first one
with the header's, which depends on the salt. So a frame counts only where it was written, after
just those frames; one that is left over from an earlier use of the same bytes does not.

**Which commits count.** The chain ends at the first frame that is cut off or whose checksum is
wrong. The last durable commit of the chain and all before it count; after it, the soft commits of
this boot. Nobody waits until a soft commit is on the disk: its bytes are surely there only as long
as the same kernel runs, which has them in its page cache.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

import deflate
from msgspec import Struct

MAGIC = b"\x8fh5fslog"
VERSION = 1
SALT_BYTES = 16
SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""

PAGE_SIZES = frozenset(2**power for power in range(9, 19))

MAX_RUN_BYTES = 2**20
"""The most that one page frame carries."""

_HEADER = struct.Struct("<8sII16sQ")
_HEADER_FIELDS_BYTES = 48
_SALT_AT = 16
_PAGE = struct.Struct("<4sIQ")
_COMMIT = struct.Struct("<4sIQQ16sQ")
_CHECKSUM = struct.Struct("<I")
_PAGE_TAG = b"PAGE"
COMMIT_TAG = b"DONE"
_DURABLE, _SOFT = 1, 2

TAGS = (_PAGE_TAG, COMMIT_TAG)
TAG_BYTES = 4
MAX_FILE_BYTES = 2**63 - 1
"""The largest number that any file can have; h5fs writes no frame with a larger one."""

PAGE_FRAME_BYTES = _PAGE.size + _CHECKSUM.size
COMMIT_FRAME_BYTES = _COMMIT.size + _CHECKSUM.size
MAX_FRAME_HEAD_BYTES = max(PAGE_FRAME_BYTES, COMMIT_FRAME_BYTES)


@dataclass(frozen=True, slots=True)
class Header:
    """A log's header. ``chain`` is its checksum, where the frames' begin."""

    page_bytes: int
    salt: bytes
    base_length: int
    first_page: bytes
    chain: int = 0

    @property
    def size_bytes(self) -> int:
        """Where the first frame is."""
        return header_bytes(self.page_bytes)


@dataclass(frozen=True, slots=True)
class PageHead:
    """A page frame without its pages."""

    first_page: int
    page_count: int
    chain: int


class CommitHead(Struct, frozen=True):
    """A commit frame. ``boot``: the digest; ``main_bytes``: the least size of the main file."""

    sequence: int
    is_durable: bool
    length: int
    boot: bytes
    main_bytes: int
    chain: int = 0


checksum: Callable[[bytes | bytearray | memoryview, int], int] = deflate.crc32
"""Returns the CRC-32 of data, continued from a start: zlib's, at eight times the speed."""


def digest_boot_id(boot_id: bytes) -> bytes:
    """Return the 16 bytes that stand for a kernel's boot id; zeros when it is not known."""
    return hashlib.blake2b(boot_id, digest_size=16).digest() if boot_id else bytes(16)


def peek_salt(data: bytes) -> bytes:
    """Return the salt that a log's first bytes name, whether or not its header is whole."""
    return data[_SALT_AT : _SALT_AT + SALT_BYTES]


def make_salt(boot: bytes) -> bytes:
    """Return the salt of a new log; ``boot``: the digest."""
    own = boot[: SALT_BYTES // 2] if any(boot) else os.urandom(SALT_BYTES // 2)
    return os.urandom(SALT_BYTES // 2) + own


def is_begun_in(salt: bytes, boot: bytes) -> bool:
    """Whether a log was begun under the kernel of a digest, and all of it written under it."""
    return any(boot) and salt[SALT_BYTES // 2 :] == boot[: SALT_BYTES // 2]


def header_bytes(page_bytes: int) -> int:
    """Return the size of a header."""
    return _HEADER_FIELDS_BYTES + page_bytes


def pack_header(header: Header) -> tuple[bytes, int]:
    """Return a header's bytes and its checksum (that of ``header`` is not looked at)."""
    fields = _HEADER.pack(MAGIC, VERSION, header.page_bytes, header.salt, header.base_length)
    chain = checksum(header.first_page, checksum(fields, 0))
    padding = bytes(_HEADER_FIELDS_BYTES - _HEADER.size - _CHECKSUM.size)
    return fields + _CHECKSUM.pack(chain) + padding + header.first_page, chain


def peek_header(data: bytes) -> tuple[int, int] | None:
    """Return the version and page size that a log's first bytes name, or None: not a log."""
    if len(data) < _HEADER.size or not data.startswith(MAGIC):
        return None
    _, version, page_bytes, _, _ = _HEADER.unpack_from(data)
    return version, page_bytes


def unpack_header(data: bytes) -> Header | None:
    """Return the header in ``data``, or None when it is not whole."""
    if len(data) < _HEADER_FIELDS_BYTES or not data.startswith(MAGIC):
        return None
    _, _, page_bytes, salt, base_length = _HEADER.unpack_from(data)
    first_page = data[_HEADER_FIELDS_BYTES:]
    if len(first_page) != page_bytes:
        return None
    header = Header(page_bytes, salt, base_length, first_page)
    packed, chain = pack_header(header)
    if packed[:_HEADER_FIELDS_BYTES] != data[:_HEADER_FIELDS_BYTES]:
        return None
    return Header(page_bytes, salt, base_length, first_page, chain)


def pack_page_head(
    first_page: int, pages: bytes | bytearray | memoryview, page_bytes: int, chain: int
) -> tuple[bytes, int]:
    """Return what stands before ``pages``, and the frame's checksum."""
    fields = _PAGE.pack(_PAGE_TAG, len(pages) // page_bytes, first_page)
    chain = checksum(pages, checksum(fields, chain))
    return fields + _CHECKSUM.pack(chain), chain


def pack_commit(commit: CommitHead, chain: int) -> tuple[bytes, int]:
    """Return a commit frame and its checksum (that of ``commit`` is not looked at)."""
    kind = _DURABLE if commit.is_durable else _SOFT
    fields = _COMMIT.pack(
        COMMIT_TAG, kind, commit.sequence, commit.length, commit.boot, commit.main_bytes
    )
    chain = checksum(fields, chain)
    return fields + _CHECKSUM.pack(chain), chain


def unpack_head(data: bytes, chain: int) -> PageHead | CommitHead | None:
    """Return the frame that ``data`` begins with, or None where the chain ends.

    The checksum of a commit frame is verified. The caller verifies that of a page frame, with
    ``continue_page_checksum``, once it has the pages.
    """
    if data.startswith(_PAGE_TAG) and len(data) >= PAGE_FRAME_BYTES:
        _, page_count, first_page = _PAGE.unpack_from(data)
        (value,) = _CHECKSUM.unpack_from(data, _PAGE.size)
        return PageHead(first_page, page_count, value)
    if data.startswith(COMMIT_TAG) and len(data) >= COMMIT_FRAME_BYTES:
        _, kind, sequence, length, boot, main_bytes = _COMMIT.unpack_from(data)
        (value,) = _CHECKSUM.unpack_from(data, _COMMIT.size)
        if kind in {_DURABLE, _SOFT} and value == checksum(data[: _COMMIT.size], chain):
            return CommitHead(sequence, kind == _DURABLE, length, boot, main_bytes, value)
    return None


def peek_head(head: bytes) -> tuple[int, int] | int:
    """Return what the head of a whole frame says, unchecked.

    Of a page frame the number of the first page and how many there are; of a commit frame the
    file's length.
    """
    if head.startswith(COMMIT_TAG):
        length: int = _COMMIT.unpack_from(head)[3]
        return length
    _, page_count, first_page = _PAGE.unpack_from(head)
    return first_page, page_count


def continue_page_checksum(head: bytes, pages: bytes, chain: int) -> int:
    """Return the checksum that a page frame with these bytes ought to have."""
    return checksum(pages, checksum(head[: _PAGE.size], chain))


def frame_bytes(head: bytes, page_bytes: int) -> int | None:
    """Return the length in bytes of the frame that begins with ``head``.

    None where not even the head is whole; 0 for what begins no frame.
    """
    if head.startswith(COMMIT_TAG):
        return COMMIT_FRAME_BYTES if len(head) >= COMMIT_FRAME_BYTES else None
    if head.startswith(_PAGE_TAG) and len(head) >= PAGE_FRAME_BYTES:
        size = _PAGE.unpack_from(head)[1] * page_bytes
        return PAGE_FRAME_BYTES + size if size <= MAX_RUN_BYTES else 0
    is_begun = any(tag.startswith(head[:TAG_BYTES]) for tag in TAGS)
    return None if is_begun and len(head) < PAGE_FRAME_BYTES else 0


def is_likely_frame(head: bytes, page_bytes: int) -> bool:
    """Whether what begins with a tag may be a frame, before its checksum is looked at."""
    if head.startswith(COMMIT_TAG) and len(head) >= COMMIT_FRAME_BYTES:
        _, kind, _, length, _, _ = _COMMIT.unpack_from(head)
        return kind in (_DURABLE, _SOFT) and bool(length <= MAX_FILE_BYTES)
    if head.startswith(_PAGE_TAG) and len(head) >= PAGE_FRAME_BYTES:
        _, page_count, _ = _PAGE.unpack_from(head)
        return bool(0 < page_count * page_bytes <= MAX_RUN_BYTES)
    return False


def chains_before(before: bytes, page_bytes: int, *, is_commit: bool) -> list[int]:
    """Return checksums that may have been continued by a frame that begins where ``before`` ends.

    These are what a commit frame there would have stored, and page frames and a header of each size
    that fits. For a commit frame (``is_commit``), whose own checksum costs little, page frames with
    damaged heads count, too.
    """
    found = []
    if is_commit or before[-COMMIT_FRAME_BYTES:].startswith(COMMIT_TAG):
        found.append(len(before) - _CHECKSUM.size)
    for count in range(1, MAX_RUN_BYTES // page_bytes + 1):
        start = len(before) - count * page_bytes - PAGE_FRAME_BYTES
        if start < 0:
            break
        if is_commit or before.startswith(_PAGE_TAG, start):
            found.append(start + _PAGE.size)
    if len(before) == header_bytes(page_bytes):
        found.append(_HEADER.size)
    return [_CHECKSUM.unpack_from(before, at)[0] for at in found if at >= 0]

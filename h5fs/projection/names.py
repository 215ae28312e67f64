"""Link names to dentry names and back: one to one, and independent of a group's other links.

A link name is bytes, as HDF5 stores it; a dentry name is bytes, as POSIX takes it. The dentry name
is the link name with a suffix that tells the kind of projection, and with percent-escapes (``%``
and two upper-case hex digits) for bytes that a dentry cannot have or that would be misread.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Collection, Iterable

from msgspec import Struct

from h5fs.errors import NameTooLongError
from h5fs.model.members import FastEnum
from h5fs.model.settings import View

NAME_MAX = 255
"""Longest dentry name in bytes (POSIX NAME_MAX on Linux)."""

_HASH_DIGITS = 12
_CUT_TAIL = 1 + _HASH_DIGITS  # "~" and the digits
# A cut goes back to the start of a UTF-8 character (at most 3 bytes), of an escape (2 bytes), or of
# several escapes of one character: by no more bytes than these.
_CUT_SLACK = 12
# No shorter link name is cut, since an escape makes at most three bytes of one.
_SHORTEST_ESCAPED = (NAME_MAX - len(b".offsets.npy") - _CUT_SLACK) // 3 - 1

# A fast way for most names; the slow way would give the same.
_PLAIN = re.compile(rb"[0-9A-Za-z_ -]{1,200}\Z")

_ESCAPE = re.compile(rb"%([0-9A-F]{2})")
_CUT = re.compile(rb"~[0-9a-f]{12}\Z")


class Projection(FastEnum):
    """What a dentry shows; the value is the suffix after the escaped link name.

    FOLDER is for groups and for symbolic links: a soft link's name must not change with the kind
    of object that the link leads to.
    """

    FOLDER = b""
    ARRAY = b".npy"
    VALUES = b".values.npy"
    OFFSETS = b".offsets.npy"
    ATTRIBUTES = b".attrs.json"
    DATATYPE = b".dtype.json"

    def __init__(self, suffix: bytes) -> None:
        self.suffix = suffix


AnyProjection = Projection | View
"""Views are made of a dataset to look at, where the mount is told to show them. They change no
other name: where a group or a link of HDF5 has the name of a view, the view is not shown."""

GROUP_ATTRIBUTES = Projection.ATTRIBUTES.suffix
"""The dentry of a group's own attributes, in the group; free, since no link has an empty name."""

OUTSIDE = b"external:"
"""The text of a symbolic link that leads out of the HDF5 file begins so; no dentry's name does."""

FILE_PROJECTIONS = tuple(p for p in Projection if p is not Projection.FOLDER)
_SUFFIXES = tuple(p.suffix for p in FILE_PROJECTIONS)
OBJECT_SUFFIXES = tuple(
    p.suffix for p in (Projection.FOLDER, Projection.ARRAY, Projection.VALUES, Projection.DATATYPE)
)
"""Each object has one dentry that ends so, whatever else shows of it."""

# Where two suffixes fit, the longer one counts.
_BY_LENGTH = sorted(FILE_PROJECTIONS, key=lambda p: -len(p.suffix))
# Endings of link names that, with the projection's suffix behind them, would look like another
# projection.
_AMBIGUOUS_ENDS: dict[AnyProjection, tuple[bytes, ...]] = {
    Projection.FOLDER: _SUFFIXES,
    Projection.ARRAY: (b".values", b".offsets"),
}


class DentryName(Struct, frozen=True):
    """What a dentry name means: the projection, and the link name unless the dentry was cut."""

    projection: Projection
    link_name: bytes | None


def check_length(dentry: bytes) -> None:
    """Raise ``NameTooLongError`` for a name that is longer than any dentry's."""
    if len(dentry) > NAME_MAX:
        raise NameTooLongError(f"a name of {len(dentry)} bytes, more than {NAME_MAX}")


def encode_name(link_name: bytes, projection: AnyProjection) -> bytes:
    """Return the dentry name (bytes, 1 to 255) under which a link's projection is listed."""
    suffix = projection.suffix
    if _PLAIN.match(link_name):
        return link_name + suffix
    stem = _escape(link_name, projection)
    if len(stem) + len(suffix) > NAME_MAX or _looks_cut(stem, suffix):
        digest = hashlib.sha256(link_name).hexdigest()[:_HASH_DIGITS].encode()
        stem = _cut(stem, NAME_MAX - len(suffix) - _CUT_TAIL) + b"~" + digest
    return stem + suffix


def encode_names(link_name: bytes, projections: Iterable[AnyProjection]) -> list[bytes]:
    """Return the dentry names of several projections of a link."""
    if _PLAIN.match(link_name):
        return [link_name + projection.suffix for projection in projections]
    return [encode_name(link_name, projection) for projection in projections]


@functools.lru_cache(maxsize=1024)  # each call of the kernel asks some times for the same ones
def decode_name(dentry: bytes) -> DentryName | None:
    """Return what ``dentry`` means, or None when no link has that dentry name.

    ``link_name`` is None for a cut name: only the group's links tell which one encodes to it.
    """
    projection = Projection.FOLDER
    if b"." in dentry:
        for each in _BY_LENGTH:
            if dentry.endswith(each.suffix):
                projection = each
                break
    stem = dentry[: len(dentry) - len(projection.suffix)]
    if _PLAIN.match(stem):
        return DentryName(projection, stem)
    if _is_cut(dentry, projection):
        return DentryName(projection, None)
    link_name = _decode(dentry, projection)
    return None if link_name is None else DentryName(projection, link_name)


def decode_view_name(dentry: bytes, views: Collection[View]) -> tuple[View, bytes | None] | None:
    """Return which view of which link's dataset ``dentry`` means; None when it can be none.

    The link name is None for a cut name, as in ``DentryName``.
    """
    view = next((each for each in views if dentry.endswith(each.suffix)), None)
    if view is None:
        return None
    if _is_cut(dentry, view):
        return view, None
    link_name = _decode(dentry, view)
    return None if link_name is None else (view, link_name)


def _is_cut(dentry: bytes, projection: AnyProjection) -> bool:
    suffix = projection.suffix
    return _looks_cut(dentry[: len(dentry) - len(suffix)], suffix)


def _decode(dentry: bytes, projection: AnyProjection) -> bytes | None:
    """Return the name of the link that has a dentry, which is not cut; None where there is none."""
    link_name = unescape(dentry[: len(dentry) - len(projection.suffix)])
    # A link has one dentry name: no other spelling of it is accepted. Nor is a name that no HDF5
    # link can have: HDF5 would cut it at its null.
    if not is_listable(link_name) or encode_name(link_name, projection) != dentry:
        return None
    return link_name


def find_cut_names(link_names: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return, for the cut dentry names of some links, the link name of each."""
    return {
        dentry: link_name
        for link_name in link_names
        if len(link_name) > _SHORTEST_ESCAPED
        for projection in (*Projection, *View)
        for dentry in [encode_name(link_name, projection)]
        if _is_cut(dentry, projection)
    }


def is_listable(link_name: bytes) -> bool:
    """Tell whether HDF5 can reach a link of this name by path; other links are not listed."""
    return link_name not in (b"", b".") and b"/" not in link_name and b"\0" not in link_name


def escape(name: bytes, characters: bytes) -> bytes:
    """Return a name with some ASCII characters percent-encoded; ``unescape`` undoes it."""
    # A "%" that happens to stand before two hex digits would decode as an escape.
    escaped = _ESCAPE.sub(lambda match: b"%25" + match[1], name)
    for character in characters:
        escaped = escaped.replace(bytes([character]), b"%%%02X" % character)
    return escaped


def unescape(escaped: bytes) -> bytes:
    """Return what percent-encoding stands for."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), escaped)


def _escape(link_name: bytes, projection: AnyProjection) -> bytes:
    stem = escape(link_name, b"")
    if stem.startswith(OUTSIDE):
        stem = escape(OUTSIDE, b":") + stem[len(OUTSIDE) :]
    if not (stem.isascii() and stem.decode("ascii").isprintable()):
        stem = _escape_unprintable(stem)
    if projection is Projection.FOLDER and stem in (b".", b".."):
        return stem.replace(b".", b"%2E")
    for end in _AMBIGUOUS_ENDS.get(projection, ()):
        if stem.endswith(end):
            dot = stem.rindex(b".")
            # ".attrs.json" has two dots; escaping the last one is enough.
            return stem[:dot] + b"%2E" + stem[dot + 1 :]
    return stem


def _escape_unprintable(stem: bytes) -> bytes:
    escaped = bytearray()
    for character in stem.decode("utf-8", "surrogateescape"):
        raw = character.encode("utf-8", "surrogateescape")
        code = ord(character)
        is_control = code < 0x20 or 0x7F <= code < 0xA0
        is_undecodable = 0xDC80 <= code <= 0xDCFF
        if is_control or is_undecodable:
            escaped += b"".join(b"%%%02X" % byte for byte in raw)
        else:
            escaped += raw
    return bytes(escaped)


def _looks_cut(stem: bytes, suffix: bytes) -> bool:
    """Tell whether a stem has the length and the ending of a cut one."""
    shortest = NAME_MAX - len(suffix) - _CUT_SLACK
    return len(stem) >= shortest and _CUT.search(stem) is not None


def _cut(stem: bytes, length: int) -> bytes:
    """Return at most ``length`` bytes of ``stem``, with no character or escape cut in two."""
    while length and (stem[length] & 0xC0) == 0x80:  # a UTF-8 continuation byte
        length -= 1
    for back in (1, 2):
        if _ESCAPE.match(stem, length - back):
            return stem[: length - back]
    return stem[:length]

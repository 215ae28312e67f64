"""Soft links whose names in the mount end as a file's do: ``latest.npy``. Pure.

The ending of a name in the mount tells the kind of file, and a soft link's name must not change
with the object that it leads to. So a soft link that HDF5 calls ``latest`` is ``latest`` in the
mount, and one that HDF5 calls ``latest.npy`` is ``latest%2Enpy``. A link that is made in the mount
as ``latest.npy`` is a soft link ``latest`` whose stored path begins with some ``./``, which HDF5
skips: their number tells the ending. Fewer than four tell nothing: other programs may write them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from h5fs.errors import InvalidNameError
from h5fs.projection.names import Projection

_ENDINGS = (  # in this order for good: files have the numbers
    Projection.ARRAY, Projection.VALUES, Projection.OFFSETS, Projection.ATTRIBUTES,
    Projection.DATATYPE,
)  # fmt: skip
_BEFORE_FIRST = 3
_MARK = re.compile(rb"/?((?:\./)+)")
_DOT = b"./"

ESCAPED_UP = b"%2E%2E"
_UP_OR_ESCAPED = re.compile(rb"(?<![^/])(?:\.\.|%((?:25)*)2E%2E)(?![^/])")


def without_ups(path: bytes) -> bytes:
    """Return an HDF5 path in which each component ``..`` is ``%2E%2E``; ``with_ups`` undoes it."""
    return _UP_OR_ESCAPED.sub(
        lambda found: ESCAPED_UP if found[1] is None else b"%25" + found[0][1:], path
    )


def with_ups(text: bytes) -> bytes:
    """Undo ``without_ups``."""
    return _UP_OR_ESCAPED.sub(lambda found: b"%" + found[0][3:] if found[1] else b"..", text)


class Endings(NamedTuple):
    """The endings of two names in the mount: a soft link's ``own``, and that of its ``target``.

    ``target`` ends the last name in the link's text. None: it is the ending of the object that the
    link leads to, since the stored path does not say.
    """

    own: Projection
    target: Projection | None


_UNMARKED = Endings(Projection.FOLDER, None)


def endings_of(stored: bytes) -> Endings:
    """Return the endings that a soft link's stored path tells."""
    mark = _MARK.match(stored)
    if mark is None:
        return _UNMARKED
    number = len(mark[1]) // len(_DOT) - _BEFORE_FIRST - 1
    if not 0 <= number < 2 * len(_ENDINGS):
        return _UNMARKED
    is_same = number < len(_ENDINGS)
    own = _ENDINGS[number % len(_ENDINGS)]
    return Endings(own, own if is_same else Projection.FOLDER)


def mark(path: bytes, own: Projection, target: Projection) -> bytes:
    """Return an HDF5 path, absolute or relative, as a link whose name ends in ``own`` stores it.

    ``target``: the ending of the last name in the link's text. Raises ``InvalidNameError`` where
    ``own`` and ``target`` are endings of two kinds of file.
    """
    path = unmarked(path)
    if own is Projection.FOLDER:
        return path
    if target not in (own, Projection.FOLDER):
        raise InvalidNameError(
            f"a symbolic link NAME{own.suffix.decode()} must lead to a name of that ending, or to "
            f"one of none, not to NAME{target.suffix.decode()}"
        )
    number = _ENDINGS.index(own) + (len(_ENDINGS) if target is Projection.FOLDER else 0)
    dots = _DOT * (_BEFORE_FIRST + 1 + number)
    return b"/" + dots + path[1:] if path.startswith(b"/") else dots + path


def unmarked(stored: bytes) -> bytes:
    """Return a stored path without the ``./`` that tell the endings."""
    if endings_of(stored) is _UNMARKED:
        return stored
    found = _MARK.match(stored)
    assert found is not None
    return stored[: found.start(1)] + stored[found.end(1) :]

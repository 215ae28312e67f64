"""Texts of variable length, many at once, from the global heaps in which HDF5 files keep them.

An element of such a type is a length, the address of a collection, and an index in it. Collections
are taken apart side by side, object by object. Whatever is not whole and plain makes the answer
None: the library has the last word. So a collection is believed only where the library believes it.

Format: HDF5 File Format Specification 3.0, III.E; H5HGcache.c of the library.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from h5fs.store.format.file_layout import FileLayout
from h5fs.store.format.headers.arena import Arena, Ints
from h5fs.store.sources.interface import Source

Texts = np.ndarray[Any, np.dtype[np.bytes_]]

REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
"""An element as the file has it, where addresses have eight bytes."""

_SIGNATURE = int.from_bytes(b"GCOL\x01", "little")
_SIGNATURE_MASK = 2**40 - 1  # what follows is reserved
_HEAD_BYTES = 16  # of a collection, and of each object in it
_HEAD = Struct("<qq")
_LEAST_BYTES = 4096  # of a collection
_MOST_BYTES = 2**20
_ALIGNMENT = 8
_MOST_ADDRESS = 2**62
_MOST_OBJECTS = 2**13  # in a collection
_MOST_COLLECTIONS = 2**13
_FEW_COLLECTIONS = 16
_INDEX_MASK = 0xFFFF
_SIZE_MASK = 2**21 - 1
_MOST_COLLECTION_BYTES = 3 << 23  # there is room for more
_MOST_TEXT_BYTES = 2**25  # of all texts, each as long as the longest


def is_too_long(references: npt.NDArray[np.void]) -> bool:
    """Whether the texts that elements lead to are too much to be read at once."""
    lengths = references["length"]
    texts_bytes = int(lengths.sum(dtype=np.int64)) + len(lengths) * (_HEAD_BYTES + _ALIGNMENT)
    return (
        texts_bytes > _MOST_COLLECTION_BYTES
        or len(lengths) * int(lengths.max(initial=0)) > _MOST_TEXT_BYTES
    )


def read_texts(
    source: Source, layout: FileLayout, references: npt.NDArray[np.void]
) -> Texts | None:
    """Return the texts that elements lead to, each up to its first null, in one array.

    ``references`` are of the dtype ``REFERENCE``. None when the library has to be asked.
    """
    if is_too_long(references):
        return None
    addresses, which = _unique(references["address"])
    if len(addresses) > _MOST_COLLECTIONS or addresses[-1] > _MOST_ADDRESS:
        return None
    lengths = references["length"].astype(np.int64)
    indexes = references["index"].astype(np.int64)
    there: Any = slice(None)
    if not addresses[0]:  # a null pointer
        there = which != 0
        lengths *= there
        addresses, which, indexes = addresses[1:], which[there] - 1, indexes[there]
    if not len(addresses):
        return np.zeros(len(lengths), "S1")
    arena = Arena(source)
    collections = _load(arena, addresses.astype(np.int64) + layout.base_offset)
    if collections is None:
        return None
    found = _locate(arena, collections, _Wanted(which, indexes, lengths[there]))
    if found is None:
        return None
    starts = np.zeros(len(lengths), np.int64)
    starts[there] = found
    return _gather(arena.data, starts, lengths)


def _unique(addresses: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], Ints]:
    """Return the distinct addresses, sorted, and the index among them of each that was given."""
    # Equal addresses are neighbours, as a rule: so there is little left to sort.
    begins = np.ones(len(addresses), np.bool_)
    begins[1:] = addresses[1:] != addresses[:-1]
    firsts = np.flatnonzero(begins)
    found, which = np.unique(addresses[firsts], return_inverse=True)
    return found, np.repeat(which.reshape(-1), np.diff(firsts, append=len(addresses)))


class _Collections(NamedTuple):
    """Where the objects of collections are in the arena: from ``firsts`` to ``ends``."""

    firsts: Ints
    ends: Ints


class _Wanted(NamedTuple):
    """Objects that elements lead to: in which collection, by which index, and of which size."""

    which: Ints
    indexes: Ints
    sizes: Ints


class _Found(NamedTuple):
    """Objects that there are: in which collection, with which index, where, and of which size."""

    which: Ints
    indexes: Ints
    starts: Ints
    sizes: Ints


def _load(arena: Arena, offsets: Ints) -> _Collections | None:
    """Bring the collections at ``offsets`` in the file into the arena."""
    sizes = np.full(len(offsets), _LEAST_BYTES)
    at, there = arena.read(offsets, sizes)
    if (there < at + sizes).any() or (arena.word(at) & _SIGNATURE_MASK != _SIGNATURE).any():
        return None
    sizes = arena.word(at + 8)
    if (sizes < _LEAST_BYTES).any() or (sizes > _MOST_BYTES).any():
        return None
    larger = sizes > _LEAST_BYTES
    if larger.any():
        at[larger], there[larger] = arena.read(offsets[larger], sizes[larger])
        if (there < at + sizes).any():
            return None
    return _Collections(at + _HEAD_BYTES, at + sizes)


def _locate(arena: Arena, collections: _Collections, wanted: _Wanted) -> Ints | None:
    """Return where in the arena the bytes of objects begin."""
    counts, starts, stops = _guess(arena, collections, wanted)
    is_guessed = counts > 0
    found = _walk(arena, stops, collections.ends)
    if found is None or (found.indexes <= counts[found.which]).any():
        return None
    if is_guessed.all():
        return starts
    rest = ~is_guessed[wanted.which]
    places = _look_up(found, _Wanted(*(column[rest] for column in wanted)), len(counts))
    if places is None:
        return None
    starts[rest] = places
    return starts


def _guess(arena: Arena, collections: _Collections, wanted: _Wanted) -> tuple[Ints, Ints, Ints]:
    """Return how many objects begin each collection as elements say, where each begins, and ends.

    Mostly the objects of a collection are the texts of elements that follow one another: then the
    sizes tell where each is, and the heads there whether that is so. The number is 0 where it is
    not. The ends are of collections: where the last object that was guessed ends.
    """
    keys = wanted.which << 16 | wanted.indexes
    order = slice(None) if (keys[1:] > keys[:-1]).all() else np.argsort(keys, kind="stable")
    which, indexes, sizes = (column[order] for column in wanted)
    counts = np.bincount(which, minlength=len(collections.firsts))
    first = np.cumsum(counts) - counts
    before = np.zeros(len(which) + 1, np.int64)
    np.cumsum((sizes + (_HEAD_BYTES + _ALIGNMENT - 1)) & -_ALIGNMENT, out=before[1:])
    stops = collections.firsts + before[first + counts] - before[first]
    is_right = stops <= collections.ends
    at = before[:-1] + np.repeat(collections.firsts - before[first], counts)
    if not is_right.all():
        at *= np.repeat(is_right, counts)  # nothing is read behind a collection
    is_wrong = arena.word(at) & _INDEX_MASK != indexes
    is_wrong |= arena.word(at + 8) != sizes
    is_wrong |= indexes != np.arange(1, len(which) + 1) - np.repeat(first, counts)
    is_right[which[is_wrong]] = False
    starts = np.empty_like(at)
    starts[order] = at + _HEAD_BYTES
    return (
        np.where(is_right, counts, 0),
        starts,
        np.where(is_right, stops, collections.firsts),
    )


def _walk(arena: Arena, first: Ints, ends: Ints) -> _Found | None:
    """Return the objects from ``first`` to ``ends``, in the arena, of each collection."""
    which, at, last = np.arange(len(first)), first, ends - _HEAD_BYTES
    more = at <= last  # a rest that is smaller is free
    columns = [(which[:0],) * 4]
    for _ in range(_MOST_OBJECTS):
        if not more.all():
            which, at, last = which[more], at[more], last[more]
        if len(at) <= _FEW_COLLECTIONS:
            break
        heads, sizes = arena.word(at), arena.word(at + 8)
        columns.append((which, heads, at, sizes))
        # Sizes are checked below; until then they must only lead forward.
        at = at + (_HEAD_BYTES + _ALIGNMENT - 1) + (sizes & _SIZE_MASK) & -_ALIGNMENT
        more = (heads & _INDEX_MASK != 0) & (at <= last)
    else:
        return None
    for each in zip(which.tolist(), at.tolist(), last.tolist(), strict=True):
        objects = _walk_one(arena, *each)
        if objects is None:
            return None
        columns.append(objects)
    which, heads, at, sizes = (np.concatenate(each) for each in zip(*columns, strict=True))
    indexes, room = heads & _INDEX_MASK, ends[which] - at
    is_free = indexes == 0  # to the end: the size counts from the head
    taken = _HEAD_BYTES + sizes + (-sizes & _ALIGNMENT - 1)
    if (sizes < 0).any() or (np.where(is_free, sizes != room, taken > room)).any():
        return None
    used = ~is_free
    return _Found(which[used], indexes[used], at[used] + _HEAD_BYTES, sizes[used])


def _walk_one(arena: Arena, which: int, at: int, last: int) -> tuple[Ints, Ints, Ints, Ints] | None:
    """Return the objects of one collection, as ``_walk`` has those of many.

    Step by step numpy takes ten times as long for one collection as Python.
    """
    objects: list[tuple[int, int, int, int]] = []
    data = arena.data.data
    for _ in range(_MOST_OBJECTS):
        if at > last:
            break
        head, size = _HEAD.unpack_from(data, at)
        objects.append((which, head, at, size))
        at = at + (_HEAD_BYTES + _ALIGNMENT - 1) + (size & _SIZE_MASK) & -_ALIGNMENT
        if not head & _INDEX_MASK:
            break
    else:
        return None
    columns = np.array(objects, np.int64).reshape(-1, 4).T
    return columns[0], columns[1], columns[2], columns[3]


def _look_up(found: _Found, wanted: _Wanted, count: int) -> Ints | None:
    """Return where objects begin; None unless all are there, of that size, and only once."""
    tops = np.zeros(count, np.int64)
    np.maximum.at(tops, found.which, found.indexes)
    firsts = np.cumsum(tops + 1) - (tops + 1)
    slots = np.full(int(tops.sum()) + count, -1, np.int64)
    keys, numbers = firsts[found.which] + found.indexes, np.arange(len(found.which))
    slots[keys] = numbers
    if (slots[keys] != numbers).any() or (wanted.indexes > tops[wanted.which]).any():
        return None
    places = slots[firsts[wanted.which] + wanted.indexes]
    if (places < 0).any() or (found.sizes[places] != wanted.sizes).any():
        return None
    starts: Ints = found.starts[places]
    return starts


def _gather(data: npt.NDArray[np.uint8], starts: Ints, lengths: Ints) -> Texts | None:
    """Return the bytes at each start up to the first null, filled up with nulls."""
    width = max(int(lengths.max()), 1)
    if int(starts.max()) + width > len(data):
        return None
    spans = np.ndarray((len(data) - width + 1,), f"V{width}", buffer=data, strides=(1,))[starts]
    rows = spans.view(np.uint8).reshape(len(starts), width)
    _clear_behind(rows, lengths)
    if np.count_nonzero(rows) != int(lengths.sum()):
        is_null = rows == 0
        _clear_behind(rows, np.where(is_null.any(axis=1), is_null.argmax(axis=1), width))
    return rows.reshape(-1).view(f"S{width}")


def _clear_behind(rows: npt.NDArray[np.uint8], lengths: Ints) -> None:
    """Let rows be null from their lengths on."""
    width = rows.shape[1]
    kind: Any = np.uint8 if width <= 0xFF else np.uint32  # compared the faster the smaller
    rows *= np.arange(width, dtype=kind) < lengths.astype(kind)[:, None]

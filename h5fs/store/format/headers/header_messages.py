"""What the messages of many object headers say, a column at a time.

Pure numpy over the messages that ``headers.blocks`` has listed. A header with a message that is
not in its plain form is unknown: the HDF5 library has to be asked about it.

Format: HDF5 File Format Specification 3.0, IV.A.2 (the messages, by number).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h5fs.store.format.file_layout import FileLayout
from h5fs.store.format.headers.arena import Bools, Ints
from h5fs.store.format.headers.array_messages import RANK_MAX, ArrayTable
from h5fs.store.format.headers.blocks import Headers
from h5fs.store.format.headers.chunk_trees import has_usual_filters, sum_chunks

UNKNOWN, GROUP, DATASET, DATATYPE = range(4)
COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL = range(4)
LAYOUT_NOT_KNOWN = 255
UNDEFINED = 0xFFFF_FFFF_FFFF_FFFF

ATTRIBUTE = 0x0C
SHARED = 0x02  # a flag

_DATASPACE = 0x01
_LINK_INFO = 0x02
_TYPE = 0x03
_EXTERNAL_FILES = 0x07
_LAYOUT = 0x08
_INVALID = 0x09
_FILTERS = 0x0B
_OLD_TIME = 0x0E
_SYMBOL_TABLE = 0x11
_TIME = 0x12
_ATTRIBUTE_INFO = 0x15
_LINK_COUNT = 0x16
_LAST_KNOWN = 0x18

_NOT_SHAREABLE = 0x04
_WAS_UNKNOWN = 0x20
_MAY_BE_SHARED = np.array([0x01, 0x03, 0x04, 0x05, 0x0C])

_ROUNDS = 4
"""In each round, datasets with the same array as the first one without a number get its number."""
_WORTH_A_ROUND = 64
_LONG_BYTES = 1024

_MASK_4 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Facts:
    """The columns of ``headers.scan.HeaderScan``, which says what they mean."""

    kind: npt.NDArray[np.uint8]
    attribute_count: npt.NDArray[np.uint32]
    hard_link_count: npt.NDArray[np.uint32]
    mtime: npt.NDArray[np.uint32]
    ctime: npt.NDArray[np.uint32]
    atime: npt.NDArray[np.uint32]
    array_index: npt.NDArray[np.int32]
    layout_class: npt.NDArray[np.uint8]
    data_offset: npt.NDArray[np.uint64]
    storage_bytes: npt.NDArray[np.int64]
    has_external: Bools


def blank_facts(count: int) -> Facts:
    """Return the columns of ``count`` headers of which nothing is known."""
    return Facts(
        kind=np.full(count, UNKNOWN, np.uint8),
        attribute_count=np.zeros(count, np.uint32),
        hard_link_count=np.zeros(count, np.uint32),
        mtime=np.zeros(count, np.uint32),
        ctime=np.zeros(count, np.uint32),
        atime=np.zeros(count, np.uint32),
        array_index=np.full(count, -1, np.int32),
        layout_class=np.full(count, LAYOUT_NOT_KNOWN, np.uint8),
        data_offset=np.full(count, UNDEFINED, np.uint64),
        storage_bytes=np.full(count, -1, np.int64),
        has_external=np.zeros(count, np.bool_),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """One kind of message: ``row`` are the headers that have it, with a value for each."""

    row: Ints
    flags: Ints
    at: Ints
    size: Ints

    def select(self, which: Bools) -> _Found:
        return _Found(self.row[which], self.flags[which], self.at[which], self.size[which])


class _Interpreter:
    """Reads the messages of a batch of headers. ``unknown`` marks those that are not plain."""

    def __init__(
        self, headers: Headers, layout: FileLayout, table: ArrayTable, largest_chunk_bytes: int
    ) -> None:
        self._largest_chunk_bytes = largest_chunk_bytes
        self._headers = headers
        self._arena = headers.arena
        self._layout = layout
        self._table = table
        self._unknown = ~headers.is_readable
        self._facts = blank_facts(len(headers.is_readable))

    def interpret(self) -> Facts:
        facts = self._facts
        self._mark_strange_messages()
        self._count_attributes()
        self._read_link_counts()
        self._read_times()
        self._tell_kinds()
        for column, blank in zip(_columns(facts), _columns(blank_facts(1)), strict=True):
            column[self._unknown] = blank[0]
        return facts

    def _find(self, kind: int, *, least_bytes: int = 0) -> _Found:
        """Return the messages of a kind; a header with two of them, or a short one, is unknown."""
        messages = self._headers.messages
        which = np.flatnonzero(messages.kind == kind)
        found = _Found(
            messages.row[which], messages.flags[which], messages.at[which], messages.size[which]
        )
        if not found.row.size:
            return found
        self._unknown |= np.bincount(found.row, minlength=len(self._unknown)) > 1
        return self._keep(found, found.size >= least_bytes)

    def _keep(self, found: _Found, is_good: Bools) -> _Found:
        if is_good.all():
            return found
        self._unknown[found.row[~is_good]] = True
        return found.select(is_good)

    def _mark_strange_messages(self) -> None:
        """Mark headers with messages that the library refuses, or that refer to other places."""
        messages = self._headers.messages
        kind, flags = messages.kind, messages.flags
        strange = (kind > _LAST_KNOWN) | (kind == _INVALID) | (flags & _WAS_UNKNOWN != 0)
        shared = np.flatnonzero(flags & SHARED)
        strange[shared] |= flags[shared] & _NOT_SHAREABLE != 0
        strange[shared] |= ~np.isin(kind[shared], _MAY_BE_SHARED)
        self._unknown[messages.row[strange]] = True

    def _count_attributes(self) -> None:
        messages = self._headers.messages
        rows = messages.row[messages.kind == ATTRIBUTE]
        self._facts.attribute_count[:] = np.bincount(rows, minlength=len(self._unknown))
        addresses = self._layout.size_of_addresses
        info = self._find(_ATTRIBUTE_INFO, least_bytes=2 + 2 * addresses)
        word = self._arena.word(info.at)
        flags = word >> 8 & 0xFF
        heap = self._arena.integer(info.at + 2 + 2 * (flags & 1), addresses)
        is_dense = heap != -1  # the attributes are in a heap outside of the header
        is_plain = self._headers.is_v2[info.row] & (word & 0xFF == 0) & (flags <= 3)
        self._keep(info, is_plain & ~is_dense)

    def _read_link_counts(self) -> None:
        self._facts.hard_link_count[:] = self._headers.link_count
        found = self._find(_LINK_COUNT, least_bytes=5)
        is_plain = self._headers.is_v2[found.row] & (self._arena.word(found.at) & 0xFF == 0)
        found = self._keep(found, is_plain)
        self._facts.hard_link_count[found.row] = self._arena.word(found.at + 1) & _MASK_4

    def _read_times(self) -> None:
        headers, facts = self._headers, self._facts
        facts.atime[:], facts.mtime[:], facts.ctime[:] = headers.atime, headers.mtime, headers.ctime
        self._unknown[self._find(_OLD_TIME).row] = True
        found = self._find(_TIME)
        # The library does not look at this message in a version 2 header.
        found = found.select(~headers.is_v2[found.row])
        word = self._arena.word(found.at)
        found = self._keep(found, (word & 0xFF == 1) & (found.size >= 8))
        facts.ctime[found.row] = self._arena.word(found.at) >> 32 & _MASK_4

    def _tell_kinds(self) -> None:
        kind = self._facts.kind
        datatype, dataspace = self._find(_TYPE), self._find(_DATASPACE)
        kind[datatype.row] = DATATYPE
        has_space = np.zeros(len(kind), np.bool_)
        has_space[dataspace.row] = True
        kind[has_space & (kind == DATATYPE)] = DATASET
        addresses = self._layout.size_of_addresses
        links = self._find(_LINK_INFO, least_bytes=2 + 2 * addresses)
        word = self._arena.word(links.at)
        kind[self._keep(links, (word & 0xFF == 0) & (word >> 8 & 0xFF <= 3)).row] = GROUP
        kind[self._find(_SYMBOL_TABLE, least_bytes=2 * addresses).row] = GROUP
        is_dataset = kind == DATASET
        if is_dataset.any():
            self._number_arrays(dataspace, datatype)
            self._read_storage(is_dataset)

    def _number_arrays(self, dataspace: _Found, datatype: _Found) -> None:
        """Number the pairs of dataspace and datatype of datasets that have both in plain form."""
        length = self._measure_dataspaces(dataspace)
        is_plain = (self._facts.kind == DATASET) & ~self._unknown
        shared_type = datatype.row[(datatype.flags & SHARED != 0) | (datatype.size < 8)]
        shared_space = dataspace.row[(dataspace.flags & SHARED != 0) | (length < 0)]
        is_plain[shared_type] = False
        is_plain[shared_space] = False
        rows = np.flatnonzero(is_plain)
        places = np.zeros((4, len(is_plain)), np.int64)
        places[0, dataspace.row], places[1, dataspace.row] = dataspace.at, length
        places[2, datatype.row], places[3, datatype.row] = datatype.at, datatype.size
        places = places[:, rows]
        numbers = np.empty(len(rows), np.int32)
        left = np.arange(len(rows))
        for _ in range(_ROUNDS):
            if left.size < _WORTH_A_ROUND:
                break
            is_alike = self._is_like_first(places[:, left])
            numbers[left[is_alike]] = self._number_pairs(places[:, left[:1]])[0]
            left = left[~is_alike]
        if left.size:
            numbers[left] = self._number_pairs(places[:, left])
        self._facts.array_index[rows] = numbers

    def _is_like_first(self, places: Ints) -> Bools:
        space_at, space_size, type_at, type_size = places
        is_alike: Bools = (space_size == space_size[0]) & (type_size == type_size[0])
        for at, size in ((space_at, int(space_size[0])), (type_at, int(type_size[0]))):
            if size > _LONG_BYTES:
                is_alike[1:] = False
                break
            is_alike[is_alike] = self._arena.is_like_first(at[is_alike], size)
        return is_alike

    def _number_pairs(self, places: Ints) -> list[int]:
        data = self._arena.data.data
        return self._table.number_all(
            (bytes(data[a : a + b]), bytes(data[c : c + d])) for a, b, c, d in places.T.tolist()
        )

    def _measure_dataspaces(self, found: _Found) -> Ints:
        """Return how long each message is without padding, -1 when it is not plain."""
        word = self._arena.word(found.at)
        version, rank, flags = word & 0xFF, word >> 8 & 0xFF, word >> 16 & 0xFF
        space_class = word >> 24 & 0xFF
        is_v2 = version == 2
        is_simple = np.where(is_v2, (space_class == 1) | ((space_class <= 2) & (rank == 0)), True)
        length = np.where(is_v2, 4, 8) + rank * self._layout.size_of_lengths * (1 + (flags & 1))
        is_plain = (is_v2 | (version == 1)) & is_simple & (rank <= RANK_MAX) & (flags <= 1)
        return np.where(is_plain & (length <= found.size), length, -1)

    def _read_storage(self, is_dataset: Bools) -> None:
        facts = self._facts
        facts.has_external[self._find(_EXTERNAL_FILES).row] = True
        found = self._find(_LAYOUT)
        found = found.select(is_dataset[found.row] & (found.size >= 4))
        word = self._arena.word(found.at)
        version = word & 0xFF
        self._read_old_layout(found, word, (version == 1) | (version == 2))
        layout_class = np.where((version >= 3) & (version <= 5), word >> 8 & 0xFF, LAYOUT_NOT_KNOWN)
        self._read_compact(found.select(layout_class == COMPACT))
        addresses, lengths = self._layout.size_of_addresses, self._layout.size_of_lengths
        some = found.select((layout_class == CONTIGUOUS) & (found.size >= 2 + addresses + lengths))
        size = self._arena.integer(some.at + 2 + addresses, lengths)
        self._set_contiguous(some, self._arena.integer(some.at + 2, addresses), size)
        facts.layout_class[found.row[layout_class == CHUNKED]] = CHUNKED
        if self._largest_chunk_bytes:
            self._read_chunk_trees(found.select((version == 3) & (layout_class == CHUNKED)))
        facts.layout_class[found.row[(layout_class == VIRTUAL) & (version >= 4)]] = VIRTUAL
        # A virtual dataset's dimensions may change with those of its sources.
        facts.array_index[np.isin(facts.layout_class, (VIRTUAL, LAYOUT_NOT_KNOWN))] = -1

    def _read_chunk_trees(self, found: _Found) -> None:
        addresses = self._layout.size_of_addresses
        rank = self._arena.word(found.at + 2) & 0xFF
        is_plain = (rank >= 2) & (rank <= RANK_MAX + 1) & (found.size >= 3 + addresses + 4 * rank)
        is_plain &= ~self._have_rare_filters()[found.row]
        found, rank = found.select(is_plain), rank[is_plain]
        address = self._arena.integer(found.at + 3, addresses)
        chunk_bytes = np.ones(len(rank), np.float64)
        for dimension in range(int(rank.max(initial=0))):
            length = self._arena.word(found.at + 3 + addresses + 4 * dimension) & _MASK_4
            chunk_bytes *= np.where(dimension < rank, length, 1)
        is_small = (chunk_bytes > 0) & (chunk_bytes <= self._largest_chunk_bytes)
        total = sum_chunks(self._arena, self._layout, address[is_small], rank[is_small])
        self._facts.storage_bytes[found.row[is_small]] = total

    def _have_rare_filters(self) -> Bools:
        """Return which headers have filters that may not be there."""
        are_usual: dict[bytes, bool] = {}
        are_rare = np.zeros(len(self._unknown), np.bool_)
        found, data = self._find(_FILTERS, least_bytes=2), self._arena.data.data
        places = zip(
            found.row.tolist(), found.flags.tolist(), found.at.tolist(), found.size.tolist(),
            strict=True,
        )  # fmt: skip
        for row, flags, at, size in places:
            message = bytes(data[at : at + size])
            if message not in are_usual:
                are_usual[message] = has_usual_filters(message)
            are_rare[row] = bool(flags & SHARED) or not are_usual[message]
        return are_rare

    def _read_compact(self, found: _Found) -> None:
        size = self._arena.word(found.at + 2) & 0xFFFF
        fits = size + 4 <= found.size
        self._facts.layout_class[found.row[fits]] = COMPACT
        self._facts.storage_bytes[found.row[fits]] = size[fits]
        has_data = fits & (size > 0)
        offset = self._arena.file_offset(found.at[has_data] + 4) - self._layout.base_offset
        self._facts.data_offset[found.row[has_data]] = offset.astype(np.uint64)

    def _read_old_layout(self, found: _Found, word: Ints, is_old: Bools) -> None:
        """Read versions 1 and 2, which have no size of the data: the array's size is the size."""
        layout_class = word >> 16 & 0xFF
        self._facts.layout_class[found.row[is_old & (layout_class == CHUNKED)]] = CHUNKED
        addresses = self._layout.size_of_addresses
        is_plain = is_old & (layout_class == CONTIGUOUS) & (found.size >= 8 + addresses)
        some = found.select(is_plain & (self._facts.array_index[found.row] >= 0))
        if some.row.size:
            sizes = np.array([min(size, 2**63 - 1) for size in self._table.size_bytes], np.int64)
            size = sizes[self._facts.array_index[some.row]]
            self._set_contiguous(some, self._arena.integer(some.at + 8, addresses), size)

    def _set_contiguous(self, found: _Found, address: Ints, size: Ints) -> None:
        """Note where the data are, unless they end beyond the end of the file."""
        facts = self._facts
        is_there = address != -1
        space_left = self._arena.file_size_bytes - self._layout.base_offset - size
        fits = (size >= 0) & (~is_there | ((address >= 0) & (address <= space_left)))
        rows = found.row[fits]
        facts.layout_class[rows] = CONTIGUOUS
        facts.data_offset[rows] = address[fits].astype(np.uint64)
        facts.storage_bytes[rows] = np.where(is_there, size, 0)[fits]
        in_other_files = rows[facts.has_external[rows]]
        facts.data_offset[in_other_files] = UNDEFINED
        facts.storage_bytes[in_other_files] = -1


def _columns(facts: Facts) -> list[npt.NDArray[np.generic]]:
    return [getattr(facts, name) for name in Facts.__slots__]


def interpret_headers(
    headers: Headers, layout: FileLayout, table: ArrayTable, *, largest_chunk_bytes: int = 0
) -> Facts:
    """Return what the headers of one batch say; pairs of messages are numbered in ``table``."""
    return _Interpreter(headers, layout, table, largest_chunk_bytes).interpret()

"""All links of a group in one value, with what `readdir` and a `stat` of each link need.

A group may hold a million links. As `Link` values they would take a gigabyte; in this table a link
takes its name and 62 bytes, in arrays that cross processes as they are. A plain value, like those
of ``objects``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from h5fs.model.objects import DatasetInfo, Link, LinkKind, ObjectInfo, ObjectKind, ObjectRef

OBJECT_KINDS = (ObjectKind.UNREADABLE, ObjectKind.GROUP, ObjectKind.DATASET, ObjectKind.DATATYPE)
"""The kinds of objects; a row has the index of one."""

ROW = np.dtype(
    [
        ("object_id", "<u8"),
        ("storage_size_bytes", "<i8"),
        ("file_offset", "<i8"),
        ("mtime", "<i8"),
        ("ctime", "<u4"),
        ("atime", "<u4"),
        ("attribute_count", "<u4"),
        ("hard_link_count", "<u4"),
        ("dataset", "<i4"),
        ("array", "<i4"),
        ("kind", "u1"),
        ("holds_sequences", "u1"),
    ]
)
"""The object of one hard link. ``dataset``: the index of the table's dataset that describes it, -1
when only ``describe_dataset`` does; ``array``: the same for its shape and type alone, which are
known more often; ``storage_size_bytes``: -1 when it is not known, else shape and type say how long
its file is; ``file_offset``: where contiguous or compact data lie, else -1.
"""


class LinkTable(Struct, frozen=True):
    """The links of ``group``, sorted by name.

    ``names``: all names joined; ``name_stops`` (``<u8``): where each name ends. ``rows``: one
    ``ROW`` for each link. ``others``: the links that are not hard links, by their index.
    ``datasets``: distinct shapes and types; a dataset's storage size and offset are in its row.
    """

    group: ObjectRef
    names: bytes
    name_stops: bytes
    rows: bytes
    datasets: tuple[DatasetInfo, ...]
    others: dict[int, Link]


class Links:
    """A ``LinkTable`` to look things up in. Safe to use from any thread."""

    def __init__(self, table: LinkTable) -> None:
        self._table = table
        self._names = table.names
        stops = np.frombuffer(table.name_stops, "<u8").astype("u8", copy=False)
        self._stops = stops.data  # nearly as fast as a list, without an object for each number
        self._rows = np.frombuffer(table.rows, ROW)
        self._hint = 0  # the index after the one found last
        self._gap = 0  # where the name would be that was not found last
        if len(self._rows) != len(self) or (stops[1:] < stops[:-1]).any():
            raise ValueError("a table of links that does not fit together")

    @property
    def size_bytes(self) -> int:
        """About how much memory the table takes."""
        return len(self._names) + self._rows.nbytes + self._stops.nbytes

    def __len__(self) -> int:
        return len(self._stops)

    def name(self, index: int) -> bytes:
        """Return the name of the link at an index."""
        start: int = self._stops[index - 1] if index else 0
        return self._names[start : self._stops[index]]

    def names(self) -> list[bytes]:
        """Return all names in order."""
        names = self._names
        return [names[start:stop] for start, stop in pairwise([0, *self._stops])]

    def joined_names(self) -> bytes:
        """Return all names, one after another."""
        return self._names

    def find(self, name: bytes) -> int | None:
        """Return the index of a name, None when no link has it."""
        # A program that asks for many names asks in order, so the next one is tried first. New ones
        # often belong between the same two.
        count, hint, gap = len(self._stops), self._hint, self._gap
        if not count:
            return None
        if hint < count and self.name(hint) == name:
            self._hint = hint + 1
            return hint
        if (not gap or self.name(gap - 1) < name) and (gap == count or name < self.name(gap)):
            return None
        index = bisect_left(range(count), name, key=self.name)
        if index == count or self.name(index) != name:
            self._gap = index
            return None
        self._hint = index + 1
        return index

    def __iter__(self) -> Iterator[Link]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Link:
        other = self._table.others.get(index)
        if other is not None:
            return other
        name = self.name(index)
        return Link(name, LinkKind.HARD, target=self._object(index, name))

    @property
    def datasets(self) -> tuple[DatasetInfo, ...]:
        """The datasets that ``dataset`` in a row is an index of."""
        return self._table.datasets

    def row(self, index: int) -> tuple[int, ...]:
        """Return the fields of the ``ROW`` at an index; all zero for a link that is not hard."""
        row: tuple[int, ...] = self._rows[index].item()
        return row

    @property
    def rows(self) -> npt.NDArray[Any]:
        """The ``ROW`` of each link, read-only; all zero for a link that is not hard."""
        return self._rows

    def _object(self, index: int, name: bytes) -> ObjectInfo:
        group = self._table.group
        (
            object_id, storage_size_bytes, file_offset, mtime, ctime, atime, attribute_count,
            hard_link_count, dataset, array, kind, holds_sequences,
        ) = self.row(index)  # fmt: skip
        path = group.path + name if group.path == b"/" else group.path + b"/" + name
        return ObjectInfo(
            ObjectRef(group.file, object_id, path), OBJECT_KINDS[kind], attribute_count,
            hard_link_count, mtime, ctime, atime, bool(holds_sequences),
            self._table.datasets[dataset] if dataset >= 0 else None,
            max(storage_size_bytes, 0), file_offset,
            self._table.datasets[array] if array >= 0 else None,
        )  # fmt: skip

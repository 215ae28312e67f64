"""Builds a table of links, of what is known of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from h5fs.model.link_table import OBJECT_KINDS, ROW, LinkTable
from h5fs.model.objects import DatasetInfo, Link, ObjectRef


class LinkTableBuilder:
    """The links of a group on their way into a table, in the order of ``names``.

    A link that nothing was set for leads to an UNREADABLE object. ``may_change``: headers may be
    rearranged, so that compact data, which lie in them, have no place that lasts.
    """

    def __init__(self, group: ObjectRef, names: list[bytes], *, may_change: bool = False) -> None:
        self._group = group
        self.may_change = may_change
        self._names = names
        self._rows = np.zeros(len(names), ROW)
        self._rows["dataset"] = self._rows["array"] = -1
        self._rows["file_offset"] = -1
        self._rows["hard_link_count"] = 1
        self.datasets: list[DatasetInfo] = []
        self._others: dict[int, Link] = {}

    def unknown(self) -> list[int]:
        """Return the indexes of all links whose targets no scan has described."""
        places: list[int] = np.flatnonzero(self._rows["kind"] == 0).tolist()
        return places

    def set_rows(self, indexes: npt.NDArray[Any], rows: npt.NDArray[Any]) -> None:
        """Take over rows of hard links; what they say of datasets is in ``datasets``."""
        self._rows[indexes] = rows

    def set_link(self, index: int, link: Link) -> None:
        """Take over one link as the library describes it."""
        if link.target is None:
            self._others[index] = link
            return
        info = link.target
        self._rows[index] = (
            info.ref.id, 0, -1, info.mtime, info.ctime, info.atime, info.attribute_count,
            info.hard_link_count, -1, -1, OBJECT_KINDS.index(info.kind), info.holds_sequences,
        )  # fmt: skip

    def table(self) -> LinkTable:
        """Return the table."""
        stops = np.cumsum([len(name) for name in self._names], dtype="<u8")
        return LinkTable(
            self._group,
            b"".join(self._names),
            stops.tobytes(),
            self._rows.tobytes(),
            tuple(self.datasets),
            self._others,
        )

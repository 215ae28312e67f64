"""What ``.csv`` and ``.txt`` files hold: lines, which a worker makes of elements."""

from __future__ import annotations

from msgspec import Struct

from h5fs.model.objects import DatasetInfo, ObjectRef
from h5fs.projection.views.columns import Table
from h5fs.projection.views.view_requests import LinesRequest
from h5fs.store.interface import ArrayPart, Store

_PIECE_BYTES = 2**20
"""About how many bytes of lines are made at a time."""


class TableContent(Struct, frozen=True):
    """A ``.csv`` file of a dataset, or its ``.txt`` file."""

    store: Store
    ref: ObjectRef
    dataset: DatasetInfo
    table: Table
    is_text: bool
    storage_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        return self.table.size_bytes

    def read_into(self, buffer: memoryview, offset: int) -> int:
        table = self.table
        size = min(len(buffer), self.size_bytes - offset)
        if size <= 0:
            return 0
        header = table.header[offset : offset + size]
        buffer[: len(header)] = header
        done = len(header)
        rows_at_once = max(1, _PIECE_BYTES // max(table.line_bytes, table.row_bytes))
        while done < size:
            row, skipped = divmod(offset + done - len(table.header), table.line_bytes)
            wanted = -(-(skipped + size - done) // table.line_bytes)
            lines = self._lines(row, min(wanted, rows_at_once))[skipped:]
            part = lines[: size - done]
            buffer[done : done + len(part)] = part
            done += len(part)
        return size

    def _lines(self, row: int, count: int) -> memoryview:
        """Return whole lines."""
        table, dataset = self.table, self.dataset
        data = bytearray(count * table.row_bytes)
        if data:
            start = row * table.row_bytes
            self.store.read_into(
                self.ref, dataset, ArrayPart.ELEMENTS, start, memoryview(data)
            )  # fmt: skip
        shape = (0,) if dataset.shape is None else dataset.shape
        request = LinesRequest(
            shape, dataset.dtype, dataset.enumerations, dataset.text_widths, row, count,
            self.is_text,
        )  # fmt: skip
        lines = memoryview(bytearray(count * table.line_bytes))
        self.store.make_view(self.ref, request, bytes(data), lines)
        return lines

"""What a worker is asked to make of elements: lines of a table or of text, or a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct

from h5fs.model.objects import DatasetInfo, Enumeration, TextWidth
from h5fs.projection.views.columns import project_table
from h5fs.projection.views.lines import format_lines
from h5fs.projection.views.pictures import project_picture, render_picture
from h5fs.projection.views.texts import format_text, project_text


class LinesOrder(Struct, frozen=True, tag=True, tag_field="class"):
    """Lines of the table of a dataset, ``row_count`` of them from ``first_row`` on.

    ``is_text``: of its file of text. The other fields are those of ``DatasetInfo`` that a table
    depends on.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    enumerations: tuple[Enumeration, ...]
    text_widths: tuple[TextWidth, ...]
    first_row: int
    row_count: int
    is_text: bool = False


class PictureOrder(Struct, frozen=True, tag=True, tag_field="class"):
    """The picture of an array of that shape and type, of at most ``size`` pixels a side."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int


ViewOrder = LinesOrder | PictureOrder


def render_view(order: ViewOrder, data: bytes) -> bytes:
    """Return what was ordered; ``data`` are the elements that it is made of."""
    if isinstance(order, PictureOrder):
        picture = project_picture(DatasetInfo(order.shape, order.dtype, 0), order.size)
        return render_picture(picture, order.dtype, data)
    dataset = DatasetInfo(
        order.shape, order.dtype, 0,
        enumerations=order.enumerations, text_widths=order.text_widths,
    )  # fmt: skip
    if order.is_text:
        return format_text(project_text(dataset), data)
    return format_lines(project_table(dataset), order.first_row, order.row_count, data)

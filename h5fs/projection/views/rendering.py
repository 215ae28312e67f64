"""What a worker is asked to make of elements: lines of a table or of text, or a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct

from h5fs.model.objects import DatasetInfo, Enumeration, TextWidth
from h5fs.projection.views.columns import project_table
from h5fs.projection.views.drawing import draw_plot
from h5fs.projection.views.images import ImageLook
from h5fs.projection.views.lines import format_lines
from h5fs.projection.views.pictures import picture_size, project_picture, render_picture
from h5fs.projection.views.pixels import Values
from h5fs.projection.views.plots import Plot, PlotLabels, plot_height, values_of
from h5fs.projection.views.texts import format_text, project_text


class LinesRequest(Struct, frozen=True, tag=True, tag_field="class"):
    """Lines of the table of a dataset, ``row_count`` of them from ``first_row`` on.

    ``is_text``: lines of its ``.txt`` file instead. The other fields are those of ``DatasetInfo``
    that a table depends on.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    enumerations: tuple[Enumeration, ...]
    text_widths: tuple[TextWidth, ...]
    first_row: int
    row_count: int
    is_text: bool = False


class PictureRequest(Struct, frozen=True, tag=True, tag_field="class"):
    """The picture of an array of that shape and type, of at most ``size`` pixels a side.

    ``look``: how an image wants to be shown.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int
    look: ImageLook | None = None


class PlotRequest(Struct, frozen=True, tag=True, tag_field="class"):
    """The line plot of ``count`` elements, ``size`` pixels wide.

    The elements are those of runs of ``run_length``, which begin at ``starts``. ``scale``: the
    elements of a dimension scale in the same places; none where the axis shows numbers of elements.
    """

    dtype: np.dtype[Any]
    count: int
    size: int
    starts: tuple[int, ...]
    run_length: int
    labels: PlotLabels
    scale_dtype: np.dtype[Any] | None = None
    scale: bytes = b""


ViewOrder = LinesRequest | PictureRequest | PlotRequest


def render_view(order: ViewOrder, data: bytes) -> bytes:
    """Return what was ordered; ``data`` are the elements that it is made of."""
    if isinstance(order, PictureRequest):
        array = DatasetInfo(order.shape, order.dtype, 0)
        picture = project_picture(array, order.size, order.look)
        size_bytes = picture_size(array, order.size)
        return render_picture(picture, order.dtype, data, order.look, size_bytes)
    if isinstance(order, PlotRequest):
        return _render_plot(order, data)
    dataset = DatasetInfo(
        order.shape, order.dtype, 0,
        enumerations=order.enumerations, text_widths=order.text_widths,
    )  # fmt: skip
    if order.is_text:
        return format_text(project_text(dataset), data)
    return format_lines(project_table(dataset), order.first_row, order.row_count, data)


def _render_plot(order: PlotRequest, data: bytes) -> bytes:
    length, starts = order.run_length, order.starts
    plot = Plot(order.count, len(starts), length, order.size, plot_height(order.size))
    y = np.split(values_of(order.dtype, data), len(starts))
    x: list[Values] = [np.arange(start, start + length) for start in starts]
    labels = order.labels
    if order.scale_dtype is not None:
        scale = values_of(order.scale_dtype, order.scale)
        steps = np.diff(scale)
        is_line = np.isfinite(scale).all() and scale[0] != scale[-1]
        if is_line and ((steps >= 0).all() or (steps <= 0).all()):
            x = np.split(scale, len(starts))
        else:
            labels = PlotLabels(labels.title, f"place along {labels.x}")
    return draw_plot(plot, x, y, labels)

"""Makes what was ordered of elements: lines of a table or of text, or a picture. Pure."""

from __future__ import annotations

import numpy as np

from h5fs.model.objects import DatasetInfo
from h5fs.projection.views.columns import project_table
from h5fs.projection.views.drawing import draw_plot
from h5fs.projection.views.lines import format_lines
from h5fs.projection.views.pictures import picture_size, project_picture, render_picture
from h5fs.projection.views.pixels import Values
from h5fs.projection.views.plots import Plot, plot_height, values_of
from h5fs.projection.views.render_requests import PictureRequest, PlotLabels, PlotRequest, ViewOrder
from h5fs.projection.views.texts import format_text, project_text


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

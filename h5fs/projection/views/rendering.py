"""Makes what was asked for of elements: lines of a table or of text, or a picture. Pure."""

from __future__ import annotations

import numpy as np

from h5fs.model.objects import DatasetInfo
from h5fs.projection.views.columns import project_table
from h5fs.projection.views.drawing import draw_plot
from h5fs.projection.views.lines import format_lines
from h5fs.projection.views.pictures import picture_size, project_picture, render_picture
from h5fs.projection.views.pixels import Values
from h5fs.projection.views.plots import Plot, plot_height, values_of
from h5fs.projection.views.texts import format_text, project_text
from h5fs.projection.views.view_requests import PictureRequest, PlotLabels, PlotRequest, ViewRequest


def render_view(request: ViewRequest, data: bytes) -> bytes:
    """Return what was asked for; ``data`` are the elements that it is made of."""
    if isinstance(request, PictureRequest):
        array = DatasetInfo(request.shape, request.dtype, 0)
        picture = project_picture(array, request.size, request.look)
        size_bytes = picture_size(array, request.size)
        return render_picture(picture, request.dtype, data, request.look, size_bytes)
    if isinstance(request, PlotRequest):
        return _render_plot(request, data)
    dataset = DatasetInfo(
        request.shape, request.dtype, 0,
        enumerations=request.enumerations, text_widths=request.text_widths,
    )  # fmt: skip
    if request.is_text:
        return format_text(project_text(dataset), data)
    return format_lines(project_table(dataset), request.first_row, request.row_count, data)


def _render_plot(request: PlotRequest, data: bytes) -> bytes:
    length, starts = request.run_length, request.starts
    plot = Plot(request.count, len(starts), length, request.size, plot_height(request.size))
    y = np.split(values_of(request.dtype, data), len(starts))
    x: list[Values] = [np.arange(start, start + length) for start in starts]
    labels = request.labels
    if request.scale_dtype is not None:
        scale = values_of(request.scale_dtype, request.scale)
        steps = np.diff(scale)
        is_line = np.isfinite(scale).all() and scale[0] != scale[-1]
        if is_line and ((steps >= 0).all() or (steps <= 0).all()):
            x = np.split(scale, len(starts))
        else:
            labels = PlotLabels(labels.title, f"place along {labels.x}")
    return draw_plot(plot, x, y, labels)

"""The content of ``.png`` files: what is read for a picture, and by whom it is made.

Elements are read like those of the array, as few as the picture shows; attributes and palettes only
when somebody reads the picture. A worker makes it, as a whole.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import time
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from h5fs.errors import H5fsError, UnreadableError, UnsupportedTypeError, show_path
from h5fs.model.objects import Attribute, DatasetInfo, ObjectInfo, ObjectKind, ObjectRef
from h5fs.model.settings import View, ViewOptions
from h5fs.projection.views.images import palette_bytes, read_look, read_palette
from h5fs.projection.views.labels import Labels, shorten
from h5fs.projection.views.pictures import Picture, picture_size, project_picture
from h5fs.projection.views.pixels import Values
from h5fs.projection.views.plots import Plot, is_plotted, project_plot
from h5fs.projection.views.view_requests import (
    ImageLook,
    PictureRequest,
    PlotLabels,
    PlotRequest,
    ViewRequest,
)
from h5fs.store.interface import ArrayPart, Store
from h5fs.tree.contents.view_content import MadePictures

_log = logging.getLogger(__name__)

_MISSING = "arrays of one dimension have no picture without Pillow: pip install 'h5fs[views]'"
_CLOSE_ROWS = 8
_PIECE_BYTES = 2**20
"""About how many bytes of elements are read at a time."""

_MOST_ROW_BYTES = 2**24
_MOST_SECONDS = 60


def picture_file_size(array: DatasetInfo, size: int) -> int:
    """Return the size of an array's ``.png`` file. Raises ``H5fsError`` where it has none."""
    if not is_plotted(array):
        return picture_size(array, size)
    if not _can_draw():
        raise UnsupportedTypeError(_MISSING)
    return project_plot(array, size).size_bytes


def missing_for(options: ViewOptions) -> str:
    """Return which views this machine cannot show, and what to do about it; else nothing."""
    return _MISSING if View.PICTURE in options.kinds and not _can_draw() else ""


@functools.cache
def _can_draw() -> bool:
    return importlib.util.find_spec("PIL") is not None


class PictureContent(Struct, frozen=True, eq=False):
    """A ``.png`` file of a dataset, made as a whole when somebody reads it.

    ``size``: how many pixels its longest side has at most. ``made``: the files made last.
    """

    store: Store
    ref: ObjectRef
    dataset: DatasetInfo
    size: int
    made: MadePictures
    storage_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        return picture_file_size(self.dataset, self.size)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        part = self._data()[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def _data(self) -> bytes:
        # Other changes than those of elements in place make another content.
        data = self.made.get(self)
        if data is None:
            changes = self.made.changes
            request_of = _request_plot if is_plotted(self.dataset) else _request_picture
            request, elements = request_of(self.store, self.ref, self.dataset, self.size)
            file = memoryview(bytearray(self.size_bytes))
            self.store.make_view(self.ref, request, elements, file)
            data = bytes(file)
            self.made.keep(self, data, changes)
        return data


class _Reader:
    """Reads elements of a dataset for a picture, for no longer than people wait for one."""

    def __init__(self, store: Store, ref: ObjectRef, dataset: DatasetInfo) -> None:
        self.dataset = dataset
        self._store, self._ref = store, ref
        self._latest = time.monotonic() + _MOST_SECONDS

    def read(self, dtype: np.dtype[Any], start: int, count: int) -> Values:
        """Return items from the ``start``-th on. Raises ``H5fsError``."""
        if time.monotonic() > self._latest:
            raise UnreadableError(
                f"{show_path(self._ref.path)}: reading what its picture shows takes more than "
                f"{_MOST_SECONDS} s"
            )
        data = bytearray(count * dtype.itemsize)
        offset = start * dtype.itemsize
        self._store.read_into(
            self._ref, self.dataset, ArrayPart.ELEMENTS, offset, memoryview(data)
        )  # fmt: skip
        return np.frombuffer(data, dtype)


# --- pictures


def _request_picture(
    store: Store, ref: ObjectRef, dataset: DatasetInfo, size: int
) -> tuple[ViewRequest, bytes]:
    look = _look_of(store, ref)
    picture = project_picture(dataset, size, look)
    assert dataset.shape is not None
    request = PictureRequest(dataset.shape, dataset.dtype, size, look)
    return request, _shown_elements(_Reader(store, ref, dataset), picture)


def _shown_elements(reader: _Reader, picture: Picture) -> bytes:
    """Return the elements that are shown, without those of other rows."""
    lines, columns, each = picture.row_items
    dtype = np.dtype((np.void, reader.dataset.dtype.itemsize * each))
    row_items = lines * columns
    height, width = picture.tile
    shown = np.zeros((len(picture.stored_planes), height, lines, width), dtype)
    # Rows that lie close together are read in one piece, with those between them.
    step = picture.step
    row_bytes = row_items * dtype.itemsize
    is_wide = row_bytes > _MOST_ROW_BYTES
    are_close = step <= _CLOSE_ROWS and not is_wide
    at_once = max(_PIECE_BYTES // row_bytes // step, 1) if are_close else 1
    for place, plane in enumerate(picture.stored_planes):
        for row in range(0, picture.rows, step * at_once):
            start, first = (plane * picture.rows + row) * row_items, row // step
            if is_wide:
                for line, part in enumerate(shown[place, first]):
                    _read_wide_row(reader, start + line * columns, columns, step, part)
                continue
            count = min((at_once - 1) * step + 1, picture.rows - row)
            rows = reader.read(dtype, start, count * row_items).reshape(count, lines, columns)
            shown[place, first : first + -(-count // step)] = rows[::step, :, ::step]
    return shown.tobytes()


def _read_wide_row(reader: _Reader, start: int, columns: int, step: int, part: Values) -> None:
    """Read every ``step``-th item of a row that is too large to be in memory at once."""
    at_once = max(_PIECE_BYTES // (step * part.itemsize), 1)
    for first in range(0, len(part), at_once):
        at = first * step
        count = min((at_once - 1) * step + 1, columns - at)
        items = reader.read(part.dtype, start + at, count)[::step]
        part[first : first + len(items)] = items


def _look_of(store: Store, ref: ObjectRef) -> ImageLook | None:
    """Return how an image wants to be shown; None for other datasets."""
    found = read_look(_labels_of(store, ref))
    if found is None:
        return None
    look, path = found
    # Without a palette that can be read the picture is grey.
    target = _try_find(store, ref, path) if path is not None else None
    if target is None:
        return look
    try:
        dataset = store.describe_dataset(target.ref)
        count = palette_bytes(dataset)
        if count is None:
            return look
        data = bytearray(count)
        store.read_into(target.ref, dataset, ArrayPart.ELEMENTS, 0, memoryview(data))
        colours = read_palette(dataset.dtype, bytes(data), _labels_of(store, target.ref))
    except H5fsError as error:
        _log.info("%s is shown without its palette: %s", show_path(ref.path), error)
        return look
    return replace(look, palette=colours)


# --- line plots


def _request_plot(
    store: Store, ref: ObjectRef, dataset: DatasetInfo, size: int
) -> tuple[ViewRequest, bytes]:
    plot = project_plot(dataset, size)
    said = _labels_of(store, ref)
    title, along = said.label(_name_of(ref)), shorten(said.text(b"DIMENSION_LABELS"))
    labels = PlotLabels(title, along or "index")
    starts = tuple(plot.starts())
    request = PlotRequest(dataset.dtype, plot.count, size, starts, plot.run_length, labels)
    elements = _read_runs(_Reader(store, ref, dataset), plot)
    scale = next((_try_find(store, ref, path) for path in said.targets(b"DIMENSION_LIST")), None)
    if scale is not None:
        request = _along_scale(store, scale.ref, dataset, plot, request)
    return request, elements


def _along_scale(
    store: Store, scale: ObjectRef, dataset: DatasetInfo, plot: Plot, request: PlotRequest
) -> PlotRequest:
    """Return a request for a plot along a dimension scale, or its name, where these can be read."""
    try:
        label = _labels_of(store, scale).label(_name_of(scale))
        request = replace(request, labels=PlotLabels(request.labels.title, label))
        described = store.describe_dataset(scale)
        if described.shape == dataset.shape and described.dtype.kind in "iuf":
            values = _read_runs(_Reader(store, scale, described), plot)
            request = replace(request, scale_dtype=described.dtype, scale=values)
    except H5fsError as error:
        _log.info("%s is not shown along its scale: %s", show_path(scale.path), error)
    return request


def _read_runs(reader: _Reader, plot: Plot) -> bytes:
    dtype = reader.dataset.dtype
    return b"".join(reader.read(dtype, at, plot.run_length).tobytes() for at in plot.starts())


# --- attributes, and where they lead


def _labels_of(store: Store, ref: ObjectRef) -> Labels:
    attributes = store.read_attributes(ref)
    return Labels({each.name: each for each in attributes if isinstance(each, Attribute)})


def _name_of(ref: ObjectRef) -> bytes:
    return ref.path.rpartition(b"/")[2]


def _try_find(store: Store, origin: ObjectRef, path: bytes) -> ObjectInfo | None:
    """Return the dataset at a path of an object's file; None where there is none."""
    try:
        group, link = store.find_link(store.root(origin.file).ref, path)
        target = store.follow(group, link) if link is not None else None
    except H5fsError as error:
        _log.info("%s: a reference leads nowhere: %s", show_path(origin.path), error)
        return None
    return target if target is not None and target.kind is ObjectKind.DATASET else None

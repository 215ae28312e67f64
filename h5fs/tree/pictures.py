"""The content of ``.png`` files: what is read for a picture, and by whom it is made.

Elements are read like those of the array, as few as the picture shows; attributes and palettes only
when somebody reads the picture. A worker makes it, as a whole.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from h5fs.errors import H5fsError, UnsupportedTypeError, show_path
from h5fs.model.objects import Attribute, DatasetInfo, ObjectInfo, ObjectKind, ObjectRef
from h5fs.model.settings import View, ViewOptions
from h5fs.projection.views.images import ImageLook, palette_bytes, read_look, read_palette
from h5fs.projection.views.labels import Facts, shorten
from h5fs.projection.views.orders import PictureOrder, PlotOrder, ViewOrder
from h5fs.projection.views.pictures import Picture, picture_size, project_picture
from h5fs.projection.views.plots import Plot, PlotLabels, is_plotted, project_plot
from h5fs.store.interface import ArrayPart, Store
from h5fs.tree.cache import LruCache

_log = logging.getLogger(__name__)

_MISSING = "arrays of one dimension have no picture without Pillow: pip install 'h5fs[views]'"
_CLOSE_ROWS = 8
_PIECE_BYTES = 2**20
"""About how many bytes of elements are read at a time."""


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


@dataclass(frozen=True, slots=True, eq=False)
class PictureContent:
    """A ``.png`` file of a dataset, made as a whole when somebody reads it.

    ``size``: how many pixels its longest side has at most. ``made``: the files made last.
    """

    store: Store
    ref: ObjectRef
    dataset: DatasetInfo
    size: int
    made: LruCache[PictureContent, bytes]
    storage_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        return picture_file_size(self.dataset, self.size)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        part = self._data()[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def _data(self) -> bytes:
        # A change of the file makes another content, so that no old picture is found here.
        data = self.made.get(self)
        if data is None:
            order_of = _order_plot if is_plotted(self.dataset) else _order_picture
            order, elements = order_of(self.store, self.ref, self.dataset, self.size)
            file = memoryview(bytearray(self.size_bytes))
            self.store.make_view(self.ref, order, elements, file)
            data = bytes(file)
            self.made.put(self, data)
        return data


# --- pictures


def _order_picture(
    store: Store, ref: ObjectRef, dataset: DatasetInfo, size: int
) -> tuple[ViewOrder, bytes]:
    look = _look_of(store, ref)
    picture = project_picture(dataset, size, look)
    assert dataset.shape is not None
    order = PictureOrder(dataset.shape, dataset.dtype, size, look)
    return order, _shown_elements(store, ref, dataset, picture)


def _shown_elements(store: Store, ref: ObjectRef, dataset: DatasetInfo, picture: Picture) -> bytes:
    """Return the elements that are shown; rows that are not are passed over."""
    lines, columns, each = picture.row_items
    dtype = np.dtype((np.void, dataset.dtype.itemsize * each))
    row_bytes = lines * columns * dtype.itemsize
    height, width = picture.tile
    shown = np.zeros((len(picture.stored_planes), height, lines, width), dtype)
    # Rows that lie close together are read in one piece, with those between them.
    step = picture.step
    at_once = max(_PIECE_BYTES // row_bytes // step, 1) if step <= _CLOSE_ROWS else 1
    for place, plane in enumerate(picture.stored_planes):
        for row in range(0, picture.rows, step * at_once):
            count = min((at_once - 1) * step + 1, picture.rows - row)
            data = bytearray(count * row_bytes)
            start = (plane * picture.rows + row) * row_bytes
            store.read_into(ref, dataset, ArrayPart.ELEMENTS, start, memoryview(data))
            rows = np.frombuffer(data, dtype).reshape(count, lines, columns)
            first = row // step
            shown[place, first : first + -(-count // step)] = rows[::step, :, ::step]
    return shown.tobytes()


def _look_of(store: Store, ref: ObjectRef) -> ImageLook | None:
    """Return what an image says of itself; None for other datasets."""
    found = read_look(_facts_of(store, ref))
    if found is None:
        return None
    look, path = found
    # A palette that cannot be had makes no picture impossible: it is grey.
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
        colours = read_palette(dataset.dtype, bytes(data), _facts_of(store, target.ref))
    except H5fsError as error:
        _log.info("%s is shown without its palette: %s", show_path(ref.path), error)
        return look
    return replace(look, palette=colours)


# --- line plots


def _order_plot(
    store: Store, ref: ObjectRef, dataset: DatasetInfo, size: int
) -> tuple[ViewOrder, bytes]:
    plot = project_plot(dataset, size)
    facts = _facts_of(store, ref)
    title, along = facts.label(_name_of(ref)), shorten(facts.text(b"DIMENSION_LABELS"))
    labels = PlotLabels(title, along or "index")
    starts = tuple(plot.starts())
    order = PlotOrder(dataset.dtype, plot.count, size, starts, plot.run_length, labels)
    elements = _read_runs(store, ref, dataset, plot)
    scale = next((_try_find(store, ref, path) for path in facts.targets(b"DIMENSION_LIST")), None)
    if scale is not None:
        order = _along_scale(store, scale.ref, dataset, plot, order)
    return order, elements


def _along_scale(
    store: Store, scale: ObjectRef, dataset: DatasetInfo, plot: Plot, order: PlotOrder
) -> PlotOrder:
    """Return an order for a plot along a dimension scale, or its name, as far as it can be read."""
    try:
        label = _facts_of(store, scale).label(_name_of(scale))
        order = replace(order, labels=PlotLabels(order.labels.title, label))
        described = store.describe_dataset(scale)
        if described.shape == dataset.shape and described.dtype.kind in "iuf":
            values = _read_runs(store, scale, described, plot)
            order = replace(order, scale_dtype=described.dtype, scale=values)
    except H5fsError as error:
        _log.info("%s is not shown along its scale: %s", show_path(scale.path), error)
    return order


def _read_runs(store: Store, ref: ObjectRef, dataset: DatasetInfo, plot: Plot) -> bytes:
    item_bytes = dataset.dtype.itemsize
    run_bytes = plot.run_length * item_bytes
    starts = plot.starts()
    data = bytearray(len(starts) * run_bytes)
    for place, start in enumerate(starts):
        part = memoryview(data)[place * run_bytes : (place + 1) * run_bytes]
        store.read_into(ref, dataset, ArrayPart.ELEMENTS, start * item_bytes, part)
    return bytes(data)


# --- attributes, and where they lead


def _facts_of(store: Store, ref: ObjectRef) -> Facts:
    attributes = store.read_attributes(ref)
    return Facts({each.name: each for each in attributes if isinstance(each, Attribute)})


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

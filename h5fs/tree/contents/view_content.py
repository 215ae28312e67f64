"""Views: what a mount shows beside a dataset's array for people to look at, made when it is read.

Which views a dataset has, and how large they are, follows from its shape and type. Elements are
read like those of the array, and made into lines or a picture in a worker.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from h5fs.errors import H5fsError, UnsupportedTypeError, show_path
from h5fs.model.objects import DatasetInfo, ObjectRef
from h5fs.model.settings import View, ViewOptions
from h5fs.projection.names import Projection, encode_name
from h5fs.projection.views.columns import Table, is_tabular, project_table
from h5fs.projection.views.render_requests import LinesRequest
from h5fs.projection.views.texts import project_text
from h5fs.store.interface import ArrayPart, Store
from h5fs.tree.contents.picture_content import PictureContent, picture_file_size
from h5fs.tree.dentries import Dentries
from h5fs.tree.lru_cache import LruCache
from h5fs.tree.nodes import Node, NodeKind

VIEW_KINDS = {
    Projection.TABLE: NodeKind.TABLE,
    Projection.PICTURE: NodeKind.PICTURE,
    Projection.TEXT: NodeKind.TEXT,
}
"""The kind of node that shows each view."""

_LINES_OF = {NodeKind.TABLE: project_table, NodeKind.TEXT: project_text}

_PICTURES_KEPT = 4

_PIECE_BYTES = 2**20
"""About how many bytes of lines are made at a time."""


class Views:
    """The views of a mount. Safe to use from any thread."""

    def __init__(self, store: Store, options: ViewOptions) -> None:
        self._store = store
        self._options = options
        # Programs read a picture in several requests.
        self._made: LruCache[PictureContent, bytes] = LruCache(_PICTURES_KEPT)
        self.projections = tuple(
            each for each in VIEW_KINDS if View(each.value[1:].decode()) in options.kinds
        )
        self.are_listed = bool(self.projections) and options.are_listed

    def of_array(self, array: DatasetInfo) -> dict[Projection, int | None]:
        """Return the views of an array with their sizes; None where only a scan tells the size."""
        sizes: dict[Projection, int | None] = {}
        for projection in self.projections:
            try:
                if array.is_scanned:
                    if _may_have(projection, array):
                        sizes[projection] = None
                else:
                    sizes[projection] = self._size_of(projection, array)
            except H5fsError:
                continue  # the array has no such view
        return sizes

    def _size_of(self, projection: Projection, array: DatasetInfo) -> int:
        if projection is Projection.PICTURE:
            return picture_file_size(array, self._options.picture_size)
        return _LINES_OF[VIEW_KINDS[projection]](array).size_bytes

    def listed_nodes(self, folder: Node, owner: Node) -> Iterator[Node]:
        """Yield the views of a node's dataset that its folder lists."""
        if not self.are_listed or owner.kind is not NodeKind.ARRAY or owner.link is None:
            return
        array = owner.info.array or owner.info.dataset
        if array is None:
            try:
                array = self._store.describe_storage(owner.info.ref).array
            except H5fsError:
                return  # what cannot be looked at has no views
        for projection in self.of_array(array) if array is not None else ():
            yield _view_node(folder, owner, projection)

    def node(self, folder: Node, owner: Node | None, projection: Projection) -> Node | None:
        """Return a view of a node's dataset, None when it has none of that kind."""
        if owner is None or owner.kind is not NodeKind.ARRAY or owner.link is None:
            return None
        array = owner.info.array or owner.info.dataset
        if array is None:
            array = self._store.describe_storage(owner.info.ref).array
        if array is None or projection not in self.of_array(array):
            return None
        return _view_node(folder, owner, projection)

    def open(self, node: Node, dataset: DatasetInfo) -> TableContent | PictureContent:
        """Return the content of a view. Raises ``H5fsError``."""
        if node.kind in _LINES_OF:
            table = _LINES_OF[node.kind](dataset)
            is_text = node.kind is NodeKind.TEXT
            return TableContent(self._store, node.info.ref, dataset, table, is_text)
        if node.kind is NodeKind.PICTURE:
            size = self._options.picture_size
            return PictureContent(self._store, node.info.ref, dataset, size, self._made)
        raise UnsupportedTypeError(f"{show_path(node.name)}: no such view")


def without_covered_views(dentries: Dentries) -> Dentries:
    """Return dentries without the views whose names are groups' or links', which come later."""
    names = dentries.names
    last = {name: place for place, name in enumerate(names)}
    if len(last) == len(names):
        return dentries
    kept = sorted(last.values())
    return Dentries([names[place] for place in kept], dentries.rows[kept])


def _may_have(projection: Projection, array: DatasetInfo) -> bool:
    """Whether a dataset whose elements are yet to be scanned may have a view."""
    if projection is Projection.TEXT:
        return array.dtype.kind == "U"
    return projection is Projection.TABLE and is_tabular(array.shape)


def _view_node(folder: Node, owner: Node, projection: Projection) -> Node:
    assert owner.link is not None
    name = encode_name(owner.link.name, projection)
    return Node(VIEW_KINDS[projection], name, owner.info, folder, owner.link)


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
        order = LinesRequest(
            shape, dataset.dtype, dataset.enumerations, dataset.text_widths, row, count,
            self.is_text,
        )  # fmt: skip
        lines = memoryview(bytearray(count * table.line_bytes))
        self.store.make_view(self.ref, order, bytes(data), lines)
        return lines

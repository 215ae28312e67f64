"""Views: what a mount shows beside a dataset's array for people to look at, made when it is read.

Which views a dataset has, and how large they are, follows from its shape and type. Elements are
read like those of the array, and made into lines or a picture in a worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from h5fs.errors import H5fsError, UnsupportedTypeError, show_path
from h5fs.model.objects import DatasetInfo
from h5fs.model.settings import View, ViewOptions
from h5fs.projection.names import Projection, encode_name
from h5fs.store.interface import Store
from h5fs.tree.dentries import Dentries
from h5fs.tree.lru_cache import LruCache
from h5fs.tree.nodes import Node, NodeKind

if TYPE_CHECKING:  # imported when somebody asks for a view
    from h5fs.tree.contents.picture_content import PictureContent
    from h5fs.tree.contents.table_content import TableContent

VIEW_KINDS = {
    Projection.TABLE: NodeKind.TABLE,
    Projection.PICTURE: NodeKind.PICTURE,
    Projection.TEXT: NodeKind.TEXT,
}
"""The kind of node that shows each view."""

_PICTURES_KEPT = 4


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
            from h5fs.tree.contents.picture_content import picture_file_size

            return picture_file_size(array, self._options.picture_size)
        from h5fs.tree.contents.table_content import project_lines

        return project_lines(VIEW_KINDS[projection], array).size_bytes

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
        if node.kind in (NodeKind.TABLE, NodeKind.TEXT):
            from h5fs.tree.contents.table_content import TableContent, project_lines

            table = project_lines(node.kind, dataset)
            is_text = node.kind is NodeKind.TEXT
            return TableContent(self._store, node.info.ref, dataset, table, is_text)
        if node.kind is NodeKind.PICTURE:
            from h5fs.tree.contents.picture_content import PictureContent

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
    from h5fs.projection.views.columns import is_tabular

    return projection is Projection.TABLE and is_tabular(array.shape)


def _view_node(folder: Node, owner: Node, projection: Projection) -> Node:
    assert owner.link is not None
    name = encode_name(owner.link.name, projection)
    return Node(VIEW_KINDS[projection], name, owner.info, folder, owner.link)

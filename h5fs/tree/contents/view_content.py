"""Views: what a mount shows beside a dataset's array for people to look at, made when it is read.

Which views a dataset has, and how large they are, follows from its shape and type. Elements are
read like those of the array, and made into lines or a picture in a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from h5fs.errors import H5fsError
from h5fs.lru_cache import LruCache
from h5fs.model.objects import DatasetInfo, ObjectRef
from h5fs.model.settings import View, ViewOptions
from h5fs.projection.names import encode_name
from h5fs.store.interface import Store
from h5fs.tree.dentries import Dentries
from h5fs.tree.nodes import Node, NodeKind

if TYPE_CHECKING:  # imported when somebody asks for a view
    from h5fs.projection.views.columns import Table
    from h5fs.tree.contents.picture_content import PictureContent
    from h5fs.tree.contents.table_content import TableContent

_PICTURES_KEPT = 4


class MadePictures:
    """The pictures that were made last, until elements change. Safe to use from any thread."""

    def __init__(self) -> None:
        self._pictures: LruCache[PictureContent, bytes] = LruCache(_PICTURES_KEPT)
        self.changes = 0

    def get(self, content: PictureContent) -> bytes | None:
        """Return the picture of a content; None where it has to be made."""
        return self._pictures.get(content)

    def keep(self, content: PictureContent, picture: bytes, changes: int) -> None:
        """Keep a picture, unless elements have changed since ``changes`` was looked at."""
        self._pictures.put(content, picture)
        if changes != self.changes:
            self._pictures.remove(content)

    def forget(self) -> None:
        """Forget all of them: elements have changed, perhaps those of a palette."""
        self.changes += 1
        self._pictures.clear()


class Views:
    """The views of a mount. Safe to use from any thread."""

    def __init__(self, store: Store, options: ViewOptions) -> None:
        self.store = store
        self.picture_size = options.picture_size
        # Programs read a picture in several requests.
        self.pictures = MadePictures()
        self.kinds = tuple(view for view in View if view in options.kinds)
        self.are_listed = bool(self.kinds) and options.are_listed

    def of_array(self, array: DatasetInfo) -> dict[View, int | None]:
        """Return the views of an array with their sizes; None where only a scan tells the size."""
        sizes: dict[View, int | None] = {}
        for view in self.kinds:
            making = VIEWS[view]
            try:
                if not array.is_scanned:
                    sizes[view] = making.size_bytes(self, array)
                elif making.may_exist(array):
                    sizes[view] = None
            except H5fsError:
                continue  # the array has no such view
        return sizes

    def listed_nodes(self, folder: Node, owner: Node) -> Iterator[Node]:
        """Yield the views of a node's dataset that its folder lists."""
        if not self.are_listed or owner.kind is not NodeKind.ARRAY or owner.link is None:
            return
        array = owner.info.array or owner.info.dataset
        if array is None:
            try:
                array = self.store.describe_storage(owner.info.ref).array
            except H5fsError:
                return  # what cannot be looked at has no views
        for view in self.of_array(array) if array is not None else ():
            yield _view_node(folder, owner, view)

    def node(self, folder: Node, owner: Node | None, view: View) -> Node | None:
        """Return a view of a node's dataset, None when it has none of that kind."""
        if owner is None or owner.kind is not NodeKind.ARRAY or owner.link is None:
            return None
        array = owner.info.array or owner.info.dataset
        if array is None:
            array = self.store.describe_storage(owner.info.ref).array
        if array is None or view not in self.of_array(array):
            return None
        return _view_node(folder, owner, view)

    def open(self, view: View, ref: ObjectRef, dataset: DatasetInfo) -> ViewContent:
        """Return the content of a view of a dataset. Raises ``H5fsError``."""
        return VIEWS[view].open(self, ref, dataset)


def without_covered_views(dentries: Dentries) -> Dentries:
    """Return dentries without the views whose names are groups' or links', which come later."""
    names = dentries.names
    last = {name: place for place, name in enumerate(names)}
    if len(last) == len(names):
        return dentries
    kept = sorted(last.values())
    return Dentries([names[place] for place in kept], dentries.rows[kept])


def _view_node(folder: Node, owner: Node, view: View) -> Node:
    assert owner.link is not None
    return Node(view, encode_name(owner.link.name, view), owner.info, folder, owner.link)


ViewContent: TypeAlias = "TableContent | PictureContent"


class Making(Struct, frozen=True):
    """How a view of a dataset is made.

    ``size_bytes`` follows from shape and type, and raises ``H5fsError`` where a dataset has no such
    view; ``may_exist`` says as much of a dataset whose elements have yet to be scanned. ``open``
    returns the content, which asks a worker to make it of elements (``render_view``).
    """

    size_bytes: Callable[[Views, DatasetInfo], int]
    may_exist: Callable[[DatasetInfo], bool]
    open: Callable[[Views, ObjectRef, DatasetInfo], ViewContent]


def _table_of(array: DatasetInfo) -> Table:
    from h5fs.projection.views.columns import project_table

    return project_table(array)


def _may_be_table(array: DatasetInfo) -> bool:
    from h5fs.projection.views.columns import is_tabular

    return is_tabular(array.shape)


def _text_of(array: DatasetInfo) -> Table:
    from h5fs.projection.views.texts import project_text

    return project_text(array)


def _open_table(views: Views, ref: ObjectRef, array: DatasetInfo) -> TableContent:
    from h5fs.tree.contents.table_content import TableContent

    return TableContent(views.store, ref, array, _table_of(array), is_text=False)


def _open_text(views: Views, ref: ObjectRef, array: DatasetInfo) -> TableContent:
    from h5fs.tree.contents.table_content import TableContent

    return TableContent(views.store, ref, array, _text_of(array), is_text=True)


def _picture_bytes(views: Views, array: DatasetInfo) -> int:
    from h5fs.tree.contents.picture_content import picture_file_size

    return picture_file_size(array, views.picture_size)


def _open_picture(views: Views, ref: ObjectRef, array: DatasetInfo) -> PictureContent:
    from h5fs.tree.contents.picture_content import PictureContent

    return PictureContent(views.store, ref, array, views.picture_size, views.pictures)


VIEWS: dict[View, Making] = {
    View.TABLE: Making(lambda _, array: _table_of(array).size_bytes, _may_be_table, _open_table),
    View.PICTURE: Making(_picture_bytes, lambda _: False, _open_picture),  # of numbers alone
    View.TEXT: Making(
        lambda _, array: _text_of(array).size_bytes, lambda array: array.dtype.kind == "U",
        _open_text,
    ),
}  # fmt: skip
"""The one table of views: a row for each ``View``."""

"""A folder whose links are all known: its dentries, and the status of a plain file, in one step.

Of 100,000 datasets in one group each is asked for once, so that a node for each would be made for
nothing. This answers from the table of links what can be answered without one, and only that; the
tree has the long way for everything else, and both give the same.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator

from h5fs.errors import H5fsError
from h5fs.link_table import OBJECT_KINDS, Links
from h5fs.objects import DatasetInfo, Link, ObjectKind
from h5fs.projection.names import Projection
from h5fs.projection.npy import project_array
from h5fs.tree.content import npy_shape
from h5fs.tree.nodes import Node, NodeKind, object_inode
from h5fs.tree.status import Dentry, Status, make_file_status

# Names that are the same in the mount, whatever they name.
_PLAIN_NAME = re.compile(rb"[0-9A-Za-z_ -]{1,200}\Z")

_DATASET = OBJECT_KINDS.index(ObjectKind.DATASET)
_SUFFIX = Projection.ARRAY.value
_ATTRIBUTES = Projection.ATTRIBUTES.value


class FolderListing:
    """One folder of the mounted file, its links, and the file's ``stat``.

    Safe to use from any thread.
    """

    def __init__(self, folder: Node, links: Links, file: os.stat_result) -> None:
        self.folder = folder
        self.links = links
        self._file = file
        self._sizes = [_size_of(dataset) for dataset in links.datasets]

    def status_of(self, name: bytes) -> Status | None:
        """Return the status of a file, None when it takes a closer look."""
        stem = name[: -len(_SUFFIX)]
        if not name.endswith(_SUFFIX) or not _PLAIN_NAME.match(stem):
            return None
        index = self.links.find(stem)
        if index is None:
            return None
        (
            address, storage_size_bytes, _, mtime, ctime, atime, _, hard_link_count, dataset, kind,
            _,
        ) = self.links.row(index)  # fmt: skip
        size_bytes = self._sizes[dataset] if kind == _DATASET and dataset >= 0 else None
        if size_bytes is None:
            return None
        return make_file_status(
            object_inode(address, NodeKind.ARRAY), self._file, size_bytes, storage_size_bytes,
            hard_link_count, mtime, ctime, atime,
        )  # fmt: skip

    def dentries(self, make_others: Callable[[Link], Iterator[Dentry]]) -> Iterator[Dentry]:
        """Yield the dentries of all links; ``make_others`` those of one that is not plain."""
        for index, (kind, address, attribute_count, is_pair) in enumerate(self.links.kinds()):
            name = self.links.name(index)
            if kind != _DATASET or is_pair or not _PLAIN_NAME.match(name):
                yield from make_others(self.links[index])
                continue
            if attribute_count:
                inode = object_inode(address, NodeKind.ATTRIBUTES)
                yield Dentry(name + _ATTRIBUTES, inode, stat.S_IFREG)
            yield Dentry(name + _SUFFIX, object_inode(address, NodeKind.ARRAY), stat.S_IFREG)


def _size_of(dataset: DatasetInfo) -> int | None:
    """Return the size of a dataset's file; None where the long way knows the error."""
    try:
        return project_array(dataset.dtype, npy_shape(dataset)).size_bytes
    except H5fsError:
        return None

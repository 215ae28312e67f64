"""A folder whose links are all known: its dentries, and the status of a plain file, in one step.

Of 100,000 datasets in one group each is asked for once, so that a node for each would be made for
nothing. This answers from the table of links what can be answered without one, and only that; the
tree has the long way for everything else, and both give the same.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from h5fs.errors import H5fsError
from h5fs.model.file_status import FileStatus
from h5fs.model.link_table import OBJECT_KINDS, Links
from h5fs.model.objects import DatasetInfo, Link, ObjectKind
from h5fs.projection.names import Projection
from h5fs.projection.npy import project_array
from h5fs.tree.content import npy_shape
from h5fs.tree.dentries import ROW as DENTRY_ROW
from h5fs.tree.dentries import Dentries, row_of
from h5fs.tree.nodes import Node, NodeKind, object_inode, object_inodes
from h5fs.tree.status import (
    NANOSECONDS,
    PREFERRED_READ_BYTES,
    Dentry,
    Status,
    blocks_of,
    file_mode,
    make_file_status,
)

# Names that are the same in the mount, whatever they name.
_LONGEST_PLAIN_NAME = 200
_PLAIN_NAME = re.compile(rb"[0-9A-Za-z_ -]{1,%d}\Z" % _LONGEST_PLAIN_NAME)
_PLAIN_NAMES = re.compile(rb"[0-9A-Za-z_ -]+\Z")

_DATASET = OBJECT_KINDS.index(ObjectKind.DATASET)
_SUFFIX = Projection.ARRAY.value
_ATTRIBUTES = Projection.ATTRIBUTES.value


class FolderListing:
    """One folder of the mounted file, its links, and the file's ``stat``.

    Safe to use from any thread.
    """

    def __init__(self, folder: Node, links: Links, file: FileStatus) -> None:
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
            object_id, storage_size_bytes, _, mtime, ctime, atime, _, hard_link_count, dataset,
            kind, _,
        ) = self.links.row(index)  # fmt: skip
        size_bytes = self._sizes[dataset] if kind == _DATASET and dataset >= 0 else None
        if size_bytes is None:
            return None
        return make_file_status(
            object_inode(object_id, NodeKind.ARRAY), self._file, size_bytes, storage_size_bytes,
            hard_link_count, mtime, ctime, atime,
        )  # fmt: skip

    def dentries(self, make_others: Callable[[Link], Iterator[Dentry]]) -> Dentries:
        """Return the dentries of all links; ``make_others`` those of one that is not plain."""
        names: list[bytes] = []
        # Places in `names`, and which link each shows.
        arrays: tuple[list[int], list[int]] = ([], [])
        attributes: tuple[list[int], list[int]] = ([], [])
        others: list[tuple[int, Dentry]] = []
        table = self.links.rows
        is_plain = (table["kind"] == _DATASET) & (table["holds_sequences"] == 0)
        link_names = self.links.names()
        are_plain = bool(_PLAIN_NAMES.match(self.links.joined_names())) and all(
            0 < len(name) <= _LONGEST_PLAIN_NAME for name in link_names
        )
        if are_plain and is_plain.all() and not table["attribute_count"].any():
            return Dentries([name + _SUFFIX for name in link_names], self._array_rows(table))
        each = zip(link_names, is_plain.tolist(), table["attribute_count"].tolist(), strict=True)
        for index, (name, is_array, attribute_count) in enumerate(each):
            if not is_array or not (are_plain or _PLAIN_NAME.match(name)):
                for dentry in make_others(self.links[index]):
                    others.append((len(names), dentry))
                    names.append(dentry.name)
                continue
            if attribute_count:
                attributes[0].append(len(names))
                attributes[1].append(index)
                names.append(name + _ATTRIBUTES)
            arrays[0].append(len(names))
            arrays[1].append(index)
            names.append(name + _SUFFIX)
        rows = np.zeros(len(names), DENTRY_ROW)
        for place, dentry in others:
            rows[place] = row_of(dentry)
        files, owners = rows[attributes[0]], table[attributes[1]]
        files["inode"] = object_inodes(owners["object_id"], NodeKind.ATTRIBUTES)
        files["mode"] = stat.S_IFREG
        rows[attributes[0]] = files
        rows[arrays[0]] = self._array_rows(table[arrays[1]])
        return Dentries(names, rows)

    def _array_rows(self, links: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what ``status_of`` says of the files of datasets, the inode number always."""
        known = [-1 if size is None else size for size in self._sizes]
        sizes = np.array([*known, -1], np.int64)[links["dataset"]]
        has_status = sizes >= 0
        file = self._file
        rows = np.zeros(len(links), DENTRY_ROW)
        rows["inode"] = object_inodes(links["object_id"], NodeKind.ARRAY)
        rows["mode"] = np.where(has_status, file_mode(file), stat.S_IFREG)
        rows["hard_link_count"] = links["hard_link_count"]
        rows["uid"], rows["gid"] = file.uid, file.gid
        rows["size_bytes"] = np.where(has_status, sizes, 0)
        rows["blocks"] = blocks_of(links["storage_size_bytes"], rows["size_bytes"])
        rows["preferred_read_bytes"] = PREFERRED_READ_BYTES
        mtime_ns = _nanoseconds(links["mtime"], file.mtime_ns)
        rows["mtime_ns"] = mtime_ns
        rows["ctime_ns"] = _nanoseconds(links["ctime"], mtime_ns)
        rows["atime_ns"] = _nanoseconds(links["atime"], file.atime_ns)
        rows["has_status"] = has_status
        return rows


def _nanoseconds(seconds: npt.NDArray[Any], otherwise: Any) -> npt.NDArray[np.int64]:
    """Return times in nanoseconds, and something else where there is none."""
    return np.where(seconds == 0, otherwise, seconds.astype(np.int64) * NANOSECONDS)


def _size_of(dataset: DatasetInfo) -> int | None:
    """Return the size of a dataset's file; None where the long way knows the error."""
    try:
        return project_array(dataset.dtype, npy_shape(dataset)).size_bytes
    except H5fsError:
        return None

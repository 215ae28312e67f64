"""A folder whose links are all known: its dentries, and the status of a plain file, in one step.

Programs ask for each of 100,000 datasets once, which is not worth a node for each. So this module
answers from the table of links, where that is enough. For everything else the tree makes a node,
and comes to the same answers.
"""

from __future__ import annotations

import itertools
import re
import stat
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from h5fs.errors import H5fsError
from h5fs.model.file_status import FileStatus
from h5fs.model.link_table import OBJECT_KINDS, Links
from h5fs.model.objects import DatasetInfo, Link, ObjectKind
from h5fs.model.settings import View
from h5fs.projection.names import AnyProjection, Projection
from h5fs.projection.npy import project_array
from h5fs.store.ahead.habits import AskedFiles
from h5fs.tree.contents.content import npy_shape
from h5fs.tree.contents.view_content import Views, without_covered_views
from h5fs.tree.dentries import ROW as DENTRY_ROW
from h5fs.tree.dentries import Dentries, row_of
from h5fs.tree.nodes import AnyKind, Node, NodeKind, object_inode, object_inodes
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
_NO_VIEW = -2  # instead of a size
_SUFFIX = Projection.ARRAY.suffix
_ATTRIBUTES = Projection.ATTRIBUTES.suffix

Numbers = npt.NDArray[np.int64]


class FolderListing:
    """One folder of the mounted file, its links, and the file's ``stat``.

    Safe to use from any thread.
    """

    def __init__(self, folder: Node, links: Links, file: FileStatus, views: Views) -> None:
        self.folder = folder
        self.links = links
        self._file = file
        self._sizes = [_size_of(dataset) for dataset in links.datasets]
        self._views = views
        self._shown: dict[AnyProjection, AnyKind] = {Projection.ARRAY: NodeKind.ARRAY}
        self._shown |= {view: view for view in views.kinds}
        self.asked_files = AskedFiles(int(np.count_nonzero(links.rows["attribute_count"])))

    @cached_property
    def _view_sizes(self) -> list[dict[View, int | None]]:
        """The views of each dataset of the table; two threads find the same."""
        return [self._views.of_array(dataset) for dataset in self.links.datasets]

    def status_of(self, name: bytes) -> Status | None:
        """Return the status of a file, None when it takes a closer look."""
        for projection, kind in self._shown.items():
            suffix = projection.suffix
            if name.endswith(suffix):
                return self._status_of(name, name[: -len(suffix)], projection, kind)
        self.asked_files.asked_count += 1
        return None

    def _status_of(
        self, name: bytes, stem: bytes, projection: AnyProjection, kind: AnyKind
    ) -> Status | None:
        if not _PLAIN_NAME.match(stem):
            return None
        index = self.links.find(stem)
        if index is None:
            return None
        (
            object_id, storage_size_bytes, _, mtime, ctime, atime, _, hard_link_count, _,
            array, object_kind, _,
        ) = self.links.row(index)  # fmt: skip
        if object_kind != _DATASET:
            return None
        if isinstance(projection, View):
            size_bytes = self._view_sizes[array].get(projection) if array >= 0 else None
            storage_size_bytes = 0
            if self.links.find(name) is not None:  # perhaps a group of that name
                return None
        else:
            is_known = array >= 0 and storage_size_bytes >= 0
            size_bytes = self._sizes[array] if is_known else None
        if size_bytes is None:
            return None
        return make_file_status(
            object_inode(object_id, kind), self._file, size_bytes, storage_size_bytes,
            hard_link_count, mtime, ctime, atime,
        )  # fmt: skip

    def dentries(self, make_others: Callable[[Link], Iterator[Dentry]]) -> Dentries:
        """Return the dentries of all links; ``make_others`` those of one that is not plain."""
        link_names = self.links.names()
        are_plain = self._are_plain(link_names)
        arrays = self._array_dentries(make_others, link_names, are_plain=are_plain)
        if not self._views.are_listed:
            return arrays
        every = [
            self._view_dentries(view, link_names, are_plain=are_plain) for view in self._views.kinds
        ]
        every.append(arrays)
        names = list(itertools.chain.from_iterable(each.names for each in every))
        dentries = Dentries(names, np.concatenate([each.rows for each in every]))
        # Plain names have no ending that a view could have.
        return dentries if are_plain else without_covered_views(dentries)

    def _are_plain(self, link_names: list[bytes]) -> bool:
        """Return whether the names of all links are the same in the mount."""
        lengths = list(map(len, link_names))
        is_short = min(lengths, default=1) > 0 and max(lengths, default=1) <= _LONGEST_PLAIN_NAME
        return is_short and bool(_PLAIN_NAMES.match(self.links.joined_names()))

    def _is_plain(self) -> npt.NDArray[np.bool_]:
        """Return for which links the table of links is enough, if their names are plain."""
        table = self.links.rows
        is_plain: npt.NDArray[np.bool_] = table["kind"] == _DATASET
        is_plain &= table["holds_sequences"] == 0
        if self._views.are_listed:
            is_plain &= table["array"] >= 0
        return is_plain

    def _view_dentries(self, view: View, link_names: list[bytes], *, are_plain: bool) -> Dentries:
        """Return the views of a kind, which come before the arrays.

        A view goes with its array: so a program that removes all files in the order of the listing
        must come to the views first.
        """
        sizes = np.full(len(self._view_sizes) + 1, _NO_VIEW, np.int64)
        for place, each in enumerate(self._view_sizes):
            if view in each:
                size_bytes = each[view]
                sizes[place] = -1 if size_bytes is None else size_bytes
        links, suffix = self.links.rows, view.suffix
        has_view = self._is_plain() & (sizes[links["array"]] != _NO_VIEW)
        if not (are_plain and has_view.all()):
            shown = np.flatnonzero(has_view).tolist()
            shown = [i for i in shown if are_plain or _PLAIN_NAME.match(link_names[i])]
            links, link_names = links[shown], [link_names[i] for i in shown]
        nothing = np.zeros(len(links), np.int64)
        rows = self._rows_of(links, view, sizes[links["array"]], nothing)
        return Dentries([name + suffix for name in link_names], rows)

    def _array_dentries(
        self,
        make_others: Callable[[Link], Iterator[Dentry]],
        link_names: list[bytes],
        *,
        are_plain: bool,
    ) -> Dentries:
        names: list[bytes] = []
        # Places in `names`, and which link each shows.
        arrays: tuple[list[int], list[int]] = ([], [])
        attributes: tuple[list[int], list[int]] = ([], [])
        others: list[tuple[int, Dentry]] = []
        table = self.links.rows
        is_plain = self._is_plain()
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
        storage_bytes = links["storage_size_bytes"]
        sizes = np.array([*known, -1], np.int64)[links["array"]]
        sizes = np.where(storage_bytes >= 0, sizes, -1)
        return self._rows_of(links, NodeKind.ARRAY, sizes, storage_bytes)

    def _rows_of(
        self, links: npt.NDArray[Any], kind: AnyKind, sizes: Numbers, storage_bytes: Numbers
    ) -> npt.NDArray[Any]:
        """Return the rows of files that show datasets; a size below 0 is not known."""
        has_status = sizes >= 0
        file = self._file
        rows = np.zeros(len(links), DENTRY_ROW)
        rows["inode"] = object_inodes(links["object_id"], kind)
        rows["mode"] = np.where(has_status, file_mode(file), stat.S_IFREG)
        rows["hard_link_count"] = links["hard_link_count"]
        rows["uid"], rows["gid"] = file.uid, file.gid
        rows["size_bytes"] = np.where(has_status, sizes, 0)
        rows["blocks"] = blocks_of(storage_bytes, rows["size_bytes"])
        rows["preferred_read_bytes"] = PREFERRED_READ_BYTES
        mtime_ns = _nanoseconds(links["mtime"], file.mtime_ns)
        rows["mtime_ns"] = mtime_ns
        rows["ctime_ns"] = _nanoseconds(links["ctime"], mtime_ns)
        rows["atime_ns"] = _nanoseconds(links["atime"], file.atime_ns)
        rows["has_status"] = has_status
        return rows


def _nanoseconds(seconds: npt.NDArray[Any], otherwise: Any) -> npt.NDArray[np.int64]:
    """Return times in nanoseconds, and ``otherwise`` where there is none."""
    return np.where(seconds == 0, otherwise, seconds.astype(np.int64) * NANOSECONDS)


def _size_of(dataset: DatasetInfo) -> int | None:
    """Return the size of a dataset's file; None where a node is needed to find the error."""
    try:
        return project_array(dataset.dtype, npy_shape(dataset)).size_bytes
    except H5fsError:
        return None

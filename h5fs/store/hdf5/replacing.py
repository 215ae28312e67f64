"""An array in a dataset's place: over it where it can hold the array, else a new one instead.

Over open identifiers; keeps nothing beyond one replacement. Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from h5py import h5d, h5f, h5g, h5l, h5o

from h5fs.errors import UnreadableError, show_path
from h5fs.objects import UnreadableAttribute
from h5fs.options import NewDatasets
from h5fs.store.hdf5.array_types import kept_type, natural_type
from h5fs.store.hdf5.array_writer import Source, write_array
from h5fs.store.hdf5.attributes import read_attributes, write_attribute
from h5fs.store.hdf5.creating import can_take, create_dataset, link_properties
from h5fs.store.hdf5.elements import npy_dtype
from h5fs.store.interface import NewArray


@dataclass(frozen=True)
class Replacement:
    """A dataset that a name of a group is to lead to; ``old_id`` is the one that has it now."""

    file_id: h5f.FileID
    group_id: h5g.GroupID
    name: bytes
    old_id: h5d.DatasetID | None
    new_datasets: NewDatasets
    on_progress: Callable[[], None]

    def write(self, source: Source, array: NewArray) -> None:
        """Write an array over the old dataset where that can hold it, else into a new one.

        Over it, whatever refers to it goes on doing so; but not under a reader's hands.
        """
        old_id, shape = self.old_id, source.shape
        write_type = None
        if old_id is not None:
            write_type = kept_type(old_id.get_type(), array.dtype)
            trailing = npy_dtype(write_type.dtype).shape if write_type is not None else ()
            own = shape[: len(shape) - len(trailing)]
            is_alike = shape[len(own) :] == trailing and can_take(old_id, write_type, own)
            if write_type is not None and is_alike and not array.is_read:
                if old_id.get_space().get_simple_extent_dims() != own:
                    old_id.set_extent(own)
                write_array(old_id, source, write_type, self.on_progress)
                return
        if write_type is None or write_type.dtype.shape:
            write_type = natural_type(array.dtype)
        item_bytes = write_type.file_type.get_size()
        new_id = create_dataset(
            self.file_id, shape, item_bytes, write_type, self.new_datasets, old_id
        )
        write_array(new_id, source, write_type, self.on_progress)
        self.put(new_id)

    def put(self, new_id: h5d.DatasetID) -> None:
        """Let a new dataset have the attributes and all the names of the old one."""
        if self.old_id is not None:
            copy_attributes(self.old_id, new_id)
        link_instead(self.file_id, self.group_id, self.name, new_id, self.old_id)


def copy_attributes(old_id: Any, new_id: Any) -> None:
    """Give an object the attributes of another. Raises ``UnreadableError`` for one that cannot."""
    for attribute in read_attributes(old_id):
        if isinstance(attribute, UnreadableAttribute):
            raise UnreadableError(
                f"attribute {show_path(attribute.name)} cannot be kept: {attribute.reason}"
            )
        write_attribute(new_id, attribute)


def find_hard_links(file_id: h5f.FileID, address: int) -> list[bytes]:
    """Return the paths of all hard links to an object, from a walk through the file's groups."""
    paths: list[bytes] = []
    root = h5g.open(file_id, b"/")

    def visit(name: bytes, info: Any) -> None:
        if info.type == h5l.TYPE_HARD and info.u == address:
            paths.append(name)

    root.links.visit(visit, info=True)
    return paths


def link_instead(
    file_id: h5f.FileID, group_id: h5g.GroupID, name: bytes, new_id: Any, old_id: Any | None
) -> None:
    """Give a new object the name, and all other names, of the one that it replaces."""
    if old_id is None:
        h5o.link(new_id, group_id, name, link_properties())
        return
    info = h5o.get_info(old_id)
    if info.rc <= 1:
        group_id.unlink(name)
        h5o.link(new_id, group_id, name, link_properties())
        return
    for path in find_hard_links(file_id, info.addr):
        folder, _, last = path.rpartition(b"/")
        parent = h5g.open(file_id, folder or b"/")
        parent.unlink(last)
        h5o.link(new_id, parent, last, link_properties())

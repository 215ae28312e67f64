"""Replaces a dataset's array: in place where the dataset can hold it, else by a new dataset.

``plan`` and ``check`` raise all refusals, before anything is changed. Works on open identifiers;
keeps nothing beyond one replacement. Under the store's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from h5py import h5d, h5f, h5g, h5i, h5l, h5o, h5p
from msgspec import Struct

from h5fs.errors import UnreadableError, show_path
from h5fs.model.objects import Attribute, UnreadableAttribute
from h5fs.model.settings import NewDatasets
from h5fs.projection.npy import npy_dtype
from h5fs.store.hdf5.objects.attributes import read_attributes, write_attribute
from h5fs.store.hdf5.objects.links import join_path
from h5fs.store.hdf5.reading.projected import FixedDataset
from h5fs.store.hdf5.types.array_types import WriteType, check_size, kept_type, natural_type
from h5fs.store.hdf5.writing.array_writer import (
    ElementSource,
    check_elements,
    write_array,
    write_plain,
)
from h5fs.store.hdf5.writing.chunk_changes import drop_doubtful_chunks
from h5fs.store.hdf5.writing.creating import (
    Inherited,
    can_take,
    check_can_encode,
    create_dataset,
    create_plain_dataset,
    drop_new,
    link_new,
    link_properties,
)
from h5fs.store.hdf5.writing.dimension_scales import lead_to_new
from h5fs.store.hdf5.writing.hidden_group import drop_nameless, keep_nameless
from h5fs.store.hdf5.writing.kept_references import as_references
from h5fs.store.hdf5.writing.lossy_filters import holds_whole
from h5fs.store.hdf5.writing.narrow_types import holds_array
from h5fs.store.hidden_names import HIDDEN_GROUP
from h5fs.store.library_interface import NewArray

_log = logging.getLogger(__name__)


class Plan(Struct, frozen=True):
    """How an array is written: over the old dataset, of that ``shape`` then, or into a new one.

    ``source``: its elements, as ``write_type`` takes them.
    """

    source: ElementSource
    write_type: WriteType
    shape: tuple[int, ...]
    is_over: bool


class Written(Struct, frozen=True):
    """A dataset that has an array now.

    ``creation``: the properties by which it was made, where these are known. ``plain``: how its
    elements are read, where it is contiguous and of a plain type; it then has this ``shape``.
    """

    dataset_id: h5d.DatasetID
    creation: h5p.PropDCID | None = None
    plain: FixedDataset | None = None
    shape: tuple[int, ...] = ()


class Replacement(Struct, frozen=True):
    """Puts an array under a name of a group; ``old_id``: the dataset that has the name now.

    ``inherited``: what a new one takes over from the group. ``keeps_old``: a program has the old
    dataset open, and shall go on reading it. ``is_beside``: the old one has other names, and keeps
    these: nothing but how it is stored is taken over from it.
    """

    file_id: h5f.FileID
    group_id: h5g.GroupID
    inherited: Inherited
    name: bytes
    old_id: h5d.DatasetID | None
    new_datasets: NewDatasets
    keeps_old: bool
    on_progress: Callable[[], None]
    is_beside: bool = False

    def plan(self, source: ElementSource, array: NewArray) -> Plan:
        """Return how an array will be written: over the old dataset where that can hold it.

        Then references to the dataset stay valid. It is not written over while a program has it
        open. Raises ``InvalidArrayError``, ``UnsupportedTypeError``, ``DatatypeTooLargeError``,
        ``UnreadableError``.
        """
        old_id, shape = self.old_id, source.shape
        write_type = None
        if old_id is not None:
            check_can_encode(old_id.get_create_plist())
            references = as_references(self.file_id, old_id, source)
            if references is not None:
                source, write_type = references
            else:
                write_type = kept_type(old_id.get_type(), array.dtype)
            if write_type is not None and not holds_array(source, write_type, self.on_progress):
                write_type = None
            trailing = npy_dtype(write_type.dtype).shape if write_type is not None else ()
            own = shape[: len(shape) - len(trailing)]
            is_alike = shape[len(own) :] == trailing and can_take(old_id, write_type, own)
            if write_type is not None and is_alike and not self.keeps_old:
                check_elements(source, write_type, self.on_progress)
                if holds_whole(old_id, source, write_type, self.on_progress):
                    return Plan(source, write_type, own, is_over=True)
            self.check()
        if write_type is None or write_type.dtype.shape:
            write_type = natural_type(array.dtype)
            if write_type.shown is None:
                check_size(write_type.file_type)
        check_elements(source, write_type, self.on_progress)
        return Plan(source, write_type, shape, is_over=False)

    @property
    def changed(self) -> tuple[int, ...]:
        """The ids of the objects whose data are others afterwards, or gone."""
        return () if self.is_beside else self.unlinked

    @property
    def unlinked(self) -> tuple[int, ...]:
        """The ids of the objects that lose the name, where they are not written over."""
        return () if self.old_id is None else (h5o.get_info(self.old_id).addr,)

    def check(self) -> None:
        """Raise ``UnreadableError`` when the old dataset has what a new one could not have."""
        if self.old_id is not None and not self.is_beside:
            _attributes_of(self.old_id)

    def write(self, plan: Plan) -> Written:
        """Write an array as planned; return the dataset that has it."""
        old_id, source = self.old_id, plan.source
        if plan.is_over and old_id is not None:
            drop_doubtful_chunks(old_id)
            if old_id.get_space().get_simple_extent_dims() != plan.shape:
                old_id.set_extent(plan.shape)
            write_array(old_id, source, plan.write_type, self.on_progress)
            return Written(old_id)
        if old_id is None and self.new_datasets == NewDatasets():
            new_id = create_plain_dataset(self.file_id, plan.shape, plan.write_type, self.inherited)
            write_plain(new_id, source, plan.write_type, self.on_progress)
            self._link_instead(new_id)
            return Written(
                new_id, self.inherited.plain_dataset, _read_as(plan.write_type), plan.shape
            )
        new_id = self._create(plan)
        if not holds_whole(new_id, source, plan.write_type, self.on_progress):
            _log.warning(
                "%s: the lossy filter is left out, which cannot hold the array that was written",
                show_path(join_path(h5i.get_name(self.group_id) or b"", self.name)),
            )  # fmt: skip
            drop_new(new_id)
            new_id = self._create(plan, loses_lossy=True)
        write_array(new_id, source, plan.write_type, self.on_progress)
        self.put(new_id)
        return Written(new_id)

    def _create(self, plan: Plan, *, loses_lossy: bool = False) -> h5d.DatasetID:
        item_bytes = plan.write_type.file_type.get_size()
        return create_dataset(
            self.file_id, plan.shape, item_bytes, plan.write_type, self.new_datasets, self.old_id,
            inherited=self.inherited, loses_lossy=loses_lossy,
        )  # fmt: skip

    def put(self, new_id: h5d.DatasetID) -> None:
        """Let a new dataset have the attributes and all the names of the old one."""
        if self.old_id is not None and not self.is_beside:
            for attribute in _attributes_of(self.old_id):
                write_attribute(new_id, attribute)
            lead_to_new(self.file_id, self.old_id, new_id)
        self._link_instead(new_id)

    def _link_instead(self, new_id: h5d.DatasetID) -> None:
        """Give a new dataset the name, and all other names, of the one that it replaces."""
        if self.old_id is None or self.is_beside:
            link_new(new_id, self.group_id, self.name)
            return
        info = h5o.get_info(self.old_id)
        if self.keeps_old:
            keep_nameless(self.file_id, self.old_id)
        self.group_id.unlink(self.name)
        link_new(new_id, self.group_id, self.name)
        if info.rc <= 1:
            return
        for path in find_hard_links(self.file_id, info.addr):
            folder, _, last = path.rpartition(b"/")
            parent = h5g.open(self.file_id, folder or b"/")
            parent.unlink(last)
            h5o.link(new_id, parent, last, link_properties(last))
        if self.keeps_old and h5o.get_info(self.old_id).rc > 1:
            drop_nameless(self.file_id, self.old_id)  # temporary names keep it


def _read_as(write_type: WriteType) -> FixedDataset | None:
    """Return how elements are read that were written as a plain type."""
    if write_type.shown is None:
        return None
    return FixedDataset(write_type.shown, is_as_read=write_type.lies_as_shown)


def _attributes_of(old_id: h5d.DatasetID) -> tuple[Attribute, ...]:
    attributes = []
    for attribute in read_attributes(old_id):
        if isinstance(attribute, UnreadableAttribute):
            raise UnreadableError(
                f"attribute {show_path(attribute.name)} cannot be kept: {attribute.reason}"
            )
        attributes.append(attribute)
    return tuple(attributes)


def find_hard_links(file_id: h5f.FileID, address: int) -> list[bytes]:
    """Return the paths of all hard links to an object, from a walk through the file's groups.

    Links in the hidden group are left out: the tree leads temporary names to the new dataset.
    """
    paths: list[bytes] = []
    root = h5g.open(file_id, b"/")

    def visit(name: bytes, info: Any) -> None:
        is_hidden = name.startswith(HIDDEN_GROUP + b"/")
        if info.type == h5l.TYPE_HARD and info.u == address and not is_hidden:
            paths.append(name)

    root.links.visit(visit, info=True)
    return paths

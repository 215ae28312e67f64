"""Objects copied from file to file by the library: storage, types and attributes stay as they are.

``H5Ocopy`` leaves references wrong (HDF5 2.0): plain ones become null, and those within compounds
and sequences keep an address of the file that they came from. So every reference in a copy is
written anew: to the copy of what it refers to, or null where that was not copied. It leaves a fill
value of variable length in the file that it came from, too, as every string variable of netCDF-4
has: `fill_values.py` makes such a dataset anew.
Functions over open identifiers, within a step, under the store's lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5i, h5l, h5o, h5p, h5r, h5s, h5t
from msgspec.structs import replace

from h5fs.errors import H5fsError, NotFoundError, UnsupportedTypeError, show_path
from h5fs.model.objects import RegionTarget
from h5fs.store.hdf5.objects.attributes import list_names, prepare_attribute, read_attribute
from h5fs.store.hdf5.objects.references import PathFinder
from h5fs.store.hdf5.types.library_calls import count_link
from h5fs.store.hdf5.writing.creating import link_properties
from h5fs.store.hdf5.writing.fill_values import remake_with_fill_value
from h5fs.store.hidden_names import HIDDEN_GROUP, is_hidden
from h5fs.store.library_interface import Uncopied

_OUTSIDE = b"\0not copied"  # stands for the path of what was not copied; no path has a null in it
_ROWS_BYTES = 2**20
_EXISTS = "it exists"


@dataclass(frozen=True)
class CopySource:
    """What is copied: an object at a path of an open file."""

    file_id: h5f.FileID
    path: bytes

    def check(self, group: h5g.GroupID) -> None:
        """Raise unless the object is there, and ``group`` is not within it."""
        try:
            object_id = h5o.open(self.file_id, self.path)
        except Exception:  # any of h5py's
            raise NotFoundError(f"{show_path(self.path)}: no object that can be opened") from None
        if not isinstance(object_id, h5g.GroupID) or not _is_same_file(self.file_id, group):
            return
        within = {h5o.get_info(object_id).addr}
        h5o.visit(object_id, lambda _name, info: within.add(info.addr), info=True)
        if h5o.get_info(group).addr in within:
            raise UnsupportedTypeError(f"{show_path(self.path)} cannot be copied into itself")


def copy_as(
    source: CopySource, group: h5g.GroupID, group_path: bytes, name: bytes,
    on_progress: Callable[[], None],
) -> None:  # fmt: skip
    """Copy an object into a group, under a name that is free there."""
    h5o.copy(source.file_id, source.path, group, name, h5p.create(h5p.OBJECT_COPY),
             link_properties(name))  # fmt: skip
    _mend_link_count(source, group, name)
    place = _below(group_path, name)
    _Mending(source, group, name, place, on_progress).mend()


def copy_contents(
    source: CopySource, group: h5g.GroupID, group_path: bytes, on_progress: Callable[[], None]
) -> tuple[Uncopied, ...]:
    """Copy what is in a group, and its attributes, into another; return what could not be.

    It all is copied at once, so that hard links and references among it stay such; and not at all
    where everything is there already, since the file would keep the space of a copy that is
    removed again. Raises ``UnsupportedTypeError`` where the source is no group.
    """
    original = h5o.open(source.file_id, source.path)
    if not isinstance(original, h5g.GroupID):
        raise UnsupportedTypeError(f"{show_path(source.path)} is not a group")
    names = [each for each in original if not is_hidden(source.path, each)]
    taken = [each for each in names if group.links.exists(each)]
    uncopied = [Uncopied(_below(group_path, each), _EXISTS) for each in taken]
    attributes = list_names(original)
    if taken == names and set(attributes) <= set(list_names(group)):
        at = _below(group_path, b"attribute ")
        return (*uncopied, *(Uncopied(at + each, _EXISTS) for each in attributes))
    name = b".h5fs-copy-" + uuid.uuid4().hex.encode()
    h5o.copy(source.file_id, source.path, group, name, h5p.create(h5p.OBJECT_COPY),
             link_properties(name))  # fmt: skip
    _mend_link_count(source, group, name)
    copy = h5o.open(group, name)
    for each in taken:
        copy.unlink(each)
    mending = _Mending(source, group, name, group_path, on_progress)
    mending.mend()
    uncopied += mending.copy_attributes(group, group_path)
    for each in list(copy):
        copy.links.move(each, group, each, link_properties(each))
    group.unlink(name)
    return tuple(uncopied)


def _mend_link_count(source: CopySource, group: h5g.GroupID, name: bytes) -> None:
    """Let a new copy have as many links as lead to it.

    It is given its name without a link: where the names of the group, one of HDF5 1.6, are more
    than the library's cache has room for, the copy's header leaves that meanwhile, and when it is
    read again it counts as one with one link (HDF5 2.0.0; as in ``create_without_link``). With a
    link too many its space would stay in use when it is deleted; with one too few, since links
    within a group lead to the group, it would go while it has a name.
    """
    copy = h5o.open(group, name)
    info, count = h5o.get_info(copy), 1
    if info.rc == 1 == h5o.get_info(h5o.open(source.file_id, source.path)).rc:
        return

    def note(_name: bytes, link: Any) -> None:
        nonlocal count
        count += link.type == h5l.TYPE_HARD and link.u == info.addr

    if isinstance(copy, h5g.GroupID):
        copy.links.visit(note, info=True)
    for _ in range(abs(info.rc - count)):
        count_link(copy, -1 if info.rc > count else 1)


@dataclass
class _Mending:
    """Makes links and references in a copy lead to the copy.

    ``place``: where the copy will be in the end; it is now called ``name`` in ``group``.
    """

    source: CopySource
    group: h5g.GroupID
    name: bytes
    place: bytes
    on_progress: Callable[[], None]
    _new_paths: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._original = h5o.open(self.source.file_id, self.source.path)
        self._copy = h5o.open(self.group, self.name)
        if self.source.path == b"/" and self._copy.links.exists(HIDDEN_GROUP):
            self._copy.unlink(HIDDEN_GROUP)
        self._is_same_file = _is_same_file(self.source.file_id, self.group)
        self._outer_path = PathFinder(self._original) if self._is_same_file else None
        now = h5i.get_name(self._copy)
        self._names = self._visit()
        for name in self._names:
            address = h5o.get_info(self._original, name).addr
            self._new_paths[address] = self.place if name == b"." else _below(now, name)

    def mend(self) -> None:
        """Go through all objects of the copy."""
        if isinstance(self._copy, h5g.GroupID):
            self._mend_soft_links(self._copy)
        for name in self._names:
            self.on_progress()
            remake_with_fill_value(h5o.open(self._original, name), self.group, self.name, name)
        self._copy = h5o.open(self.group, self.name)  # it may be a dataset that was made anew
        for name in self._names:
            self.on_progress()
            copy = h5o.open(self._copy, name)
            self._mend_attributes(name, copy)
            if isinstance(copy, h5d.DatasetID) and _has_references(copy.get_type()):
                self._mend_dataset(h5o.open(self._original, name), copy)

    def copy_attributes(self, target: Any, path: bytes) -> list[Uncopied]:
        """Give another object the attributes of the one that was copied, but for those it has."""
        uncopied = []
        taken = set(list_names(target))
        for name in list_names(self._original):
            what = _below(path, b"attribute ") + name
            if name in taken:
                uncopied.append(Uncopied(what, _EXISTS))
                continue
            try:
                self._write_attribute(self._original, name, target)
            except H5fsError as error:
                uncopied.append(Uncopied(what, str(error)))
        return uncopied

    def _visit(self) -> list[bytes]:
        """Return names of all objects of the copy, each once, the object itself first."""
        names = [b"."]

        def note(name: bytes) -> None:
            self.on_progress()
            names.append(name)

        if isinstance(self._copy, h5g.GroupID):
            h5o.visit(self._copy, note)  # which leaves the group itself out
        return names

    def _mend_soft_links(self, copy: h5g.GroupID) -> None:
        """Let absolute soft links within what was copied lead to the copy."""
        links: list[bytes] = []

        def note(name: bytes, info: Any) -> None:
            if info.type == h5l.TYPE_SOFT:
                links.append(name)

        copy.links.visit(note, info=True)
        start = self.source.path.rstrip(b"/")
        for name in links:
            text = copy.links.get_val(name)
            is_within = text == self.source.path or text.startswith(start + b"/")
            new = self.place.rstrip(b"/") + text[len(start) :] if is_within else text
            if new != text:
                copy.unlink(name)
                copy.links.create_soft(name, new or b"/", link_properties(name))

    def _mend_attributes(self, name: bytes, copy: Any) -> None:
        for attribute in list_names(copy):
            if _has_references(h5a.open(copy, attribute).get_type()):
                self._write_attribute(h5o.open(self._original, name), attribute, copy)

    def _write_attribute(self, original: Any, name: bytes, target: Any) -> None:
        attribute = read_attribute(original, name, paths=self._path_of)
        elements = tuple(map(_without_outside, attribute.elements))
        prepare_attribute(target, replace(attribute, elements=elements)).write()

    def _path_of(self, address: int) -> bytes | None:
        path = self._new_paths.get(address)
        if path is None:
            return _OUTSIDE if self._outer_path is None else self._outer_path(address)
        return path

    def _mend_dataset(self, original: h5d.DatasetID, copy: h5d.DatasetID) -> None:
        space = original.get_space()
        if space.get_simple_extent_type() == h5s.NULL or not copy.get_storage_size():
            return
        shape, dtype = space.get_simple_extent_dims(), original.dtype
        rows = max(1, _ROWS_BYTES // max(1, prod(shape[1:]) * dtype.itemsize))
        for start in range(0, shape[0] if shape else 1, rows):
            self.on_progress()
            here = original.get_space()
            count = shape
            if shape:
                count = (min(rows, shape[0] - start), *shape[1:])
                here.select_hyperslab((start,) + (0,) * (len(shape) - 1), count)
            there = h5s.create_simple(count) if shape else h5s.create(h5s.SCALAR)
            array = np.empty(count, dtype)
            original.read(there, here, array)
            self._translate(array, dtype)
            copy.write(there, here, array)

    def _translate(self, array: Any, dtype: np.dtype[Any]) -> None:
        """Exchange the references in an array of h5py's, in place.

        ``dtype`` says what its Python objects are, which the arrays within one do not say.
        """
        if dtype.names is not None:
            for name in dtype.names:
                self._translate(array[name], dtype[name].base)
        elif h5t.check_ref_dtype(dtype) is not None:
            for index, reference in enumerate(array.flat):
                array.flat[index] = self._new_reference(reference)
        elif isinstance(base := h5t.check_vlen_dtype(dtype), np.dtype) and base.hasobject:
            for sequence in array.flat:
                if isinstance(sequence, np.ndarray):
                    self._translate(sequence, base)

    def _new_reference(self, reference: Any) -> Any:
        is_region = isinstance(reference, h5r.RegionReference)
        null = h5r.RegionReference() if is_region else h5r.Reference()
        if not reference:
            return null
        try:
            address = h5o.get_info(h5r.dereference(reference, self.source.file_id)).addr
        except Exception:  # any of h5py's: it leads nowhere
            return null
        path = self._new_paths.get(address)
        if path is None:
            return reference if self._is_same_file else null
        if not is_region:
            return h5r.create(self.group, path, h5r.OBJECT)
        region = h5r.get_region(reference, self.source.file_id)
        return h5r.create(self.group, path, h5r.DATASET_REGION, region)


def _has_references(type_id: h5t.TypeID) -> bool:
    return bool(type_id.get_class() == h5t.REFERENCE or type_id.detect_class(h5t.REFERENCE))


def _without_outside(element: Any) -> Any:
    """Return an element of an attribute, with null references to what was not copied."""
    if isinstance(element, tuple):
        return tuple(map(_without_outside, element))
    path = element.path if isinstance(element, RegionTarget) else element
    return None if path == _OUTSIDE else element


def _is_same_file(file_id: h5f.FileID, group: h5g.GroupID) -> bool:
    return bool(h5o.get_info(file_id).fileno == h5o.get_info(group).fileno)


def _below(path: bytes, name: bytes) -> bytes:
    return path.rstrip(b"/") + b"/" + name

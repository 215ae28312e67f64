"""HDF5 references in memory, to plain targets and back. Under the store's lock.

h5py makes its reference objects only inside a conversion, so each reference goes through
``H5Tconvert`` from and to h5py's own datatype for Python objects: a pointer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np
from h5py import h5d, h5g, h5i, h5l, h5o, h5r, h5s, h5t

from h5fs.errors import H5fsError, UnreadableError, UnsupportedTypeError
from h5fs.model.datatypes import ReferenceKind, ReferenceType
from h5fs.model.objects import RegionTarget, UnnamedTarget
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hidden_names import is_below_hidden

PathOf = Callable[[int], bytes | None]
"""Returns the HDF5 path of the object at an address, None when no path leads there."""

MAX_SELECTED = 65_536
"""Most blocks or points of one region reference; each one costs memory here and time in JSON."""

_SIZE_BYTES = {ReferenceKind.OBJECT: 8, ReferenceKind.REGION: 12}


class PathFinder:
    """Names the objects of one file by address: a ``PathOf``.

    The library finds the name of one object by a search through the whole file, 40 ms in one of
    2,000 objects. So the first question walks the file once, and the answers are kept as long as
    all links of the file that have changed were told to ``forget`` and ``note``.
    """

    def __init__(self, object_id: Any) -> None:
        self._object_id = object_id
        self._paths: dict[int, bytes | None] | None = None

    def __call__(self, address: int) -> bytes | None:
        """Return the path of the object at ``address``, None when no path leads there."""
        if self._paths is None:
            self._paths = walk_for_paths(self._object_id)
        if address not in self._paths:  # in a damaged file the walk ends early
            reference = _to_python(address.to_bytes(8, sys.byteorder), ReferenceKind.OBJECT)
            name = h5r.get_name(reference, self._object_id)
            if name is None or not is_below_hidden(name.lstrip(b"/")):
                self._paths[address] = name
            elif h5o.get_info(self._object_id, name).rc == 1:
                self._paths[address] = None
            else:  # a datatype that is open has a hidden name beside others
                self._paths = walk_for_paths(self._object_id)
                self._paths.setdefault(address, None)
        return self._paths[address]

    def forget(self, addresses: Iterable[int]) -> None:
        """Take note that these objects, which have no members, have lost a link."""
        if self._paths is not None:
            for address in addresses:
                self._paths.pop(address, None)

    def note(self, address: int, path: bytes) -> None:
        """Take note that an object has got a link."""
        if self._paths is not None and self._paths.get(address) is None:
            self._paths[address] = path


def walk_for_paths(object_id: Any) -> dict[int, bytes | None]:
    """Return the paths of all objects of a file by their addresses; None: hidden ones."""
    paths: dict[int, bytes | None] = {}
    hidden: set[int] = set()

    def note(name: bytes, info: h5o.ObjInfo) -> None:
        if is_below_hidden(name):
            hidden.add(info.addr)
        else:
            paths.setdefault(info.addr, b"/" if name == b"." else b"/" + name)

    def note_link(name: bytes, info: Any) -> None:
        if info.type == h5l.TYPE_HARD and info.u in hidden and (not is_below_hidden(name)):
            paths.setdefault(info.u, b"/" + name)

    with suppress(H5fsError), reading("walk through the file"):
        file_id = h5i.get_file_id(object_id)
        h5o.visit(file_id, note, info=True)
        if hidden:  # the walk came to each object by one of its names
            root = h5g.open(file_id, b"/")
            root.links.visit(note_link, info=True)
    return {**dict.fromkeys(hidden), **paths}


def read_reference(
    stored: bytes, datatype: ReferenceType, *, object_id: Any, path_of: PathOf
) -> bytes | UnnamedTarget | RegionTarget | None:
    """Return the target of a reference as it lies in memory; None when it is null.

    ``object_id`` is any object of the file. Raises ``UnreadableError`` for a region of nothing,
    ``UnsupportedTypeError`` for the references of HDF5 1.12, which h5py does not know.
    """
    if datatype.size_bytes != _SIZE_BYTES.get(datatype.kind):
        raise UnsupportedTypeError(f"references of kind H5T_STD_REF ({datatype.size_bytes} bytes)")
    if not any(stored):
        return None
    if datatype.kind is ReferenceKind.OBJECT:
        address = int.from_bytes(stored, sys.byteorder)
        return path_of(address) or UnnamedTarget(address)
    reference = _to_python(stored, datatype.kind)
    path = path_of(h5o.get_info(h5r.dereference(reference, object_id)).addr)
    if path is None:
        raise UnreadableError("reference to a region of a dataset that no path leads to")
    return describe_region(h5r.get_region(reference, object_id), path)


def store_reference(
    target: bytes | UnnamedTarget | RegionTarget | None,
    datatype: ReferenceType,
    *,
    object_id: Any,
) -> bytes:
    """Return a reference to ``target``, in the file of ``object_id``, as it lies in memory.

    Raises ``UnsupportedTypeError`` for the references of HDF5 1.12, which h5py does not know.
    """
    size = _SIZE_BYTES.get(datatype.kind)
    if datatype.size_bytes != size:
        raise UnsupportedTypeError(f"references of kind H5T_STD_REF ({datatype.size_bytes} bytes)")
    if target is None:
        return bytes(size)
    if isinstance(target, UnnamedTarget):
        return target.address.to_bytes(size, sys.byteorder)
    if isinstance(target, bytes):
        return _from_python(h5r.create(object_id, target, h5r.OBJECT), datatype.kind)
    dataset_id = h5r.dereference(h5r.create(object_id, target.path, h5r.OBJECT), object_id)
    if not isinstance(dataset_id, h5d.DatasetID):
        raise UnsupportedTypeError("region reference to something that is not a dataset")
    space = dataset_id.get_space()
    _select_region(space, target)
    reference = h5r.create(dataset_id, b".", h5r.DATASET_REGION, space)
    return _from_python(reference, datatype.kind)


def _hdf5_type(kind: ReferenceKind) -> h5t.TypeID:
    return h5t.STD_REF_OBJ if kind is ReferenceKind.OBJECT else h5t.STD_REF_DSETREG


def _to_python(stored: bytes, kind: ReferenceKind) -> h5r.Reference:
    buffer = np.zeros(2, np.uint64)
    buffer.view(np.uint8)[: len(stored)] = np.frombuffer(stored, np.uint8)
    background = np.zeros(1, np.uint64)  # h5py releases the object that a pointer here names
    h5t.convert(_hdf5_type(kind), h5t.PYTHON_OBJECT, 1, buffer, background)
    owner = np.empty(1, object)
    np.ndarray(1, np.uint64, buffer=owner)[0] = buffer[0]  # moves the pointer, with its count
    return owner[0]


def _from_python(reference: h5r.Reference, kind: ReferenceKind) -> bytes:
    # id() is the object's address, which is what h5py's datatype holds; ``reference`` outlives it.
    buffer = np.array([id(reference), 0], np.uint64)
    h5t.convert(h5t.PYTHON_OBJECT, _hdf5_type(kind), 1, buffer)
    return buffer.tobytes()[: _SIZE_BYTES[kind]]


def describe_region(space: h5s.SpaceID, path: bytes) -> RegionTarget:
    """Return what a dataspace selects of the dataset at ``path``.

    Raises ``UnreadableError`` for more blocks or points than ``MAX_SELECTED``.
    """
    kind = space.get_select_type()
    if kind == h5s.SEL_ALL:
        return RegionTarget(path, everything=True)
    if kind == h5s.SEL_NONE:
        return RegionTarget(path)
    if kind == h5s.SEL_POINTS:
        if space.get_select_npoints() > MAX_SELECTED:
            raise UnreadableError(f"region of more than {MAX_SELECTED} points")
        points = space.get_select_elem_pointlist().tolist()
        return RegionTarget(path, points=tuple(map(tuple, points)))
    if space.get_select_hyper_nblocks() > MAX_SELECTED:
        raise UnreadableError(f"region of more than {MAX_SELECTED} blocks")
    return RegionTarget(
        path,
        blocks=tuple(
            (tuple(first), tuple(index + 1 for index in last))
            for first, last in space.get_select_hyper_blocklist().tolist()
        ),
    )


def _select_region(space: h5s.SpaceID, target: RegionTarget) -> None:
    extent = space.get_simple_extent_dims()
    corners = [*target.points, *(start for start, _ in target.blocks)]
    ends = [*(tuple(i + 1 for i in p) for p in target.points), *(stop for _, stop in target.blocks)]
    for start, stop in zip(corners, ends, strict=True):
        if not len(start) == len(stop) == len(extent) or not all(
            0 <= low < high <= size for low, high, size in zip(start, stop, extent, strict=True)
        ):
            raise UnsupportedTypeError(f"region {start}-{stop} outside of an extent of {extent}")
    if target.everything:
        space.select_all()
    elif target.points:
        space.select_elements(np.array(target.points, np.uint64))
    else:
        space.select_none()
        for start, stop in target.blocks:
            count = tuple(high - low for low, high in zip(start, stop, strict=True))
            # One block of that shape: many blocks of one element would be listed one by one.
            one = (1,) * len(count)
            space.select_hyperslab(start, one, block=count, op=h5s.SELECT_OR)

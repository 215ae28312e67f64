"""Program: every attribute of HDF5 files to JSON and back, a line of JSON for each.

A process of its own for each file, since some make the HDF5 library crash. An attribute's result is
"equal", "equal, h5py cannot read it", "equal, not written" (references and regions lead to other
objects of the same file), "unreadable", "unreadable, h5py reads it" or "different".
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5o, h5t

from h5fs.errors import H5fsError
from h5fs.model.datatypes import (
    ArrayType,
    CompoundType,
    Datatype,
    ReferenceType,
    SequenceType,
)
from h5fs.model.objects import Attribute, UnreadableAttribute
from h5fs.projection.json.attribute_file import attributes_from_json, attributes_to_json
from h5fs.projection.json.datatype_documents import datatype_document
from h5fs.store.hdf5.objects.attributes import read_attributes, write_attribute
from h5fs.store.hdf5.objects.references import PathFinder
from h5fs.store.hdf5.types.type_ids import describe_datatype

_MOST_SECONDS = 100

Result = tuple[str, bytes, bytes, str]
"""result, object path, attribute name, why"""


def refuse_constant(constant: str) -> None:
    raise ValueError(constant)


def walk(file: h5py.File) -> Iterator[tuple[bytes, Any]]:
    """Yield every object that hard links lead to and HDF5 can open, once, with a path."""
    seen = set()
    pending = [b"/"]
    while pending:
        path = pending.pop()
        try:
            object_id = h5o.open(file.id, path)
            address = h5o.get_info(object_id).addr
            links: list[tuple[bytes, int]] = []
            if address not in seen and isinstance(object_id, h5g.GroupID):
                object_id.links.iterate(
                    lambda name, info, links=links: links.append((name, info.type)), info=True
                )
        except Exception:  # not an object that has attributes; the store's tests say what it is
            continue
        if address not in seen:
            seen.add(address)
            yield path, object_id
            pending += [path.rstrip(b"/") + b"/" + name for name, kind in links if kind == 0]


def has_references(datatype: Datatype) -> bool:
    if isinstance(datatype, CompoundType):
        return any(has_references(member.type) for member in datatype.members)
    if isinstance(datatype, ArrayType | SequenceType):
        return has_references(datatype.base)
    return isinstance(datatype, ReferenceType)


def h5py_value(object_id: Any, name: bytes) -> Any:
    """Return h5py's value, or the exception that it raises."""
    classes = {h5g.GroupID: h5py.Group, h5d.DatasetID: h5py.Dataset}
    owner = classes.get(type(object_id), h5py.Datatype)(object_id)
    try:
        return plain(owner.attrs[name])
    except Exception as error:
        return error


def plain(value: Any) -> Any:
    """Return a value of h5py as something whose equality means equal bits."""
    if isinstance(value, h5py.Empty):
        return ("null", str(value.dtype))
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.names is not None:
        return [value.shape, *(plain(value[name]) for name in value.dtype.names)]
    if value.dtype == object:
        return [value.shape, *(plain(item) for item in value.ravel().tolist())]
    if value.dtype.itemsize == np.dtype(np.longdouble).itemsize and value.dtype.kind in "fc":
        return [value.shape, value.tolist()]  # the padding in it is not data
    return [value.shape, str(value.dtype), value.tobytes()]


def compare(object_id: Any, attribute: Attribute, scratch: h5py.File) -> tuple[str, str]:
    """Write an attribute that went through JSON onto a new object and compare that."""
    if has_references(attribute.type):
        return "equal, not written", ""
    copy_id = h5g.create(scratch.id, None)
    write_attribute(copy_id, attribute)
    types = [h5a.open(owner, attribute.name).get_type() for owner in (object_id, copy_id)]
    if not types[0].copy().equal(types[1].copy()):
        return "different", f"types are not H5Tequal: {attribute.type}"
    if read_attributes(copy_id) != (attribute,):
        return "different", f"read back: {read_attributes(copy_id)}"
    values = [h5py_value(owner, attribute.name) for owner in (object_id, copy_id)]
    if isinstance(values[0], Exception):
        return "equal, h5py cannot read it", str(values[0])
    equal = repr(values[0]) == repr(values[1]) or values[0] == values[1]
    return ("equal", "") if equal else ("different", f"h5py reads {values[1]!r}, not {values[0]!r}")


def round_trip(path: bytes, object_id: Any, paths: PathFinder, scratch: h5py.File) -> list[Result]:
    try:
        if isinstance(object_id, h5t.TypeID):
            json.loads(datatype_document(describe_datatype(object_id)))
        attributes = read_attributes(object_id, paths=paths)
    except H5fsError as error:
        return [("unreadable", path, b"", str(error))]
    text = attributes_to_json(attributes)
    json.loads(text, parse_constant=refuse_constant)
    back = {attribute.name: attribute for attribute in attributes_from_json(text)}
    readable = tuple(a for a in attributes if isinstance(a, Attribute))
    results: list[Result] = []
    if attributes_from_json(text, attributes) != readable:
        results.append(("different", path, b"", "beside the existing attributes"))
    for attribute in attributes:
        if isinstance(attribute, UnreadableAttribute):
            value = h5py_value(object_id, attribute.name)
            is_read = not isinstance(value, Exception)
            verdict = "unreadable, h5py reads it" if is_read else "unreadable"
            results.append((verdict, path, attribute.name, attribute.reason))
        elif has_references(attribute.type) and back[attribute.name] != attribute:
            results.append(("different", path, attribute.name, f"{back[attribute.name]}"))
        else:
            verdict, why = compare(object_id, back[attribute.name], scratch)
            results.append((verdict, path, attribute.name, why))
    return results


def main(paths: list[str]) -> None:
    """Print the results of each file, and how the process that looked at it ended.

    A process for each, since a file may crash or hang the library: forked, so that what all of
    them need is imported once.
    """
    for path in paths:
        child = os.fork()
        if child == 0:
            signal.alarm(_MOST_SECONDS)
            look_at(path)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(json.dumps(["end", path, str(os.waitstatus_to_exitcode(status)), ""]), flush=True)


def look_at(path: str) -> None:
    """Print the results, each as soon as it is known."""
    try:
        file = h5py.File(path, "r")
    except Exception as error:
        print(json.dumps(["no HDF5 file", "", "", str(error)]), flush=True)
        return
    # A file in memory, in the newest format: any object of it takes attributes of any size.
    with file, h5py.File("scratch", "w", driver="core", backing_store=False, libver="latest") as s:
        paths = PathFinder(file.id)
        for object_path, object_id in walk(file):
            for verdict, where, name, why in round_trip(object_path, object_id, paths, s):
                print(json.dumps([verdict, repr(where), repr(name), why[:300]]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

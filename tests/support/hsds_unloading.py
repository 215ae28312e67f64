"""A domain of a data service copied into an HDF5 file, by plain requests, for h5py to look at."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from h5fs.model.datatypes import Datatype, SequenceType, StringType
from h5fs.store.hsds.datatype_json import element_dtype, parse_datatype, wire_bytes
from h5fs.store.hsds.unpacking import to_array, unpack
from support.hsds_service import Service

_MOST_BYTES = 100 << 20


class Unloader:
    """Copies one domain."""

    def __init__(self, service: Service, domain: str) -> None:
        self._service = service
        self._domain = domain
        self._made: dict[str, Any] = {}

    def unload(self, path: Path) -> h5py.File:
        """Write a file anew, and return it, open."""
        opened = h5py.File(path, "w")
        root = self._ask("/")["root"]
        self._made[root] = opened
        self._copy_attributes(f"/groups/{root}", opened)
        self._copy_links(root, opened)
        return opened

    def _ask(self, path: str, **query: str) -> Any:
        return self._service.ask("GET", path, self._domain, **query)

    def _copy_links(self, group_id: str, group: h5py.Group) -> None:
        for link in self._ask(f"/groups/{group_id}/links")["links"]:
            name = link["title"]
            if link["class"] == "H5L_TYPE_SOFT":
                group[name] = h5py.SoftLink(link["h5path"])
            elif link["class"] == "H5L_TYPE_EXTERNAL":
                file = link.get("file") or link["h5domain"]
                group[name] = h5py.ExternalLink(file, link["h5path"])
            elif link["id"] in self._made:
                group[name] = self._made[link["id"]]
            else:
                self._copy_object(link["id"], group, name)

    def _copy_object(self, object_id: str, group: h5py.Group, name: str) -> None:
        collection = {"g": "groups", "d": "datasets", "t": "datatypes"}[object_id[0]]
        place = f"/{collection}/{object_id}"
        if collection == "groups":
            self._made[object_id] = made = group.create_group(name)
            self._copy_links(object_id, made)
        else:
            said = self._ask(place)
            datatype = parse_datatype(said["type"])
            if collection == "datatypes":
                group[name] = _h5py_dtype(datatype)
            else:
                self._copy_dataset(said, datatype, group, name)
            self._made[object_id] = made = group[name]
        self._copy_attributes(place, made)

    def _copy_dataset(self, said: Any, datatype: Datatype, group: h5py.Group, name: str) -> None:
        dtype = _h5py_dtype(datatype)
        if said["shape"]["class"] == "H5S_NULL":
            group[name] = h5py.Empty(dtype)
            return
        shape = tuple(said["shape"].get("dims", ()))
        layout = said["creationProperties"].get("layout", {})
        settings: dict[str, Any] = {}
        if shape and "dims" in layout and layout.get("class") != "H5D_CONTIGUOUS":
            settings["chunks"] = tuple(layout["dims"])
            largest = said["shape"]["maxdims"]
            settings["maxshape"] = tuple(
                size if isinstance(size, int) and size else None for size in largest
            )
            names = [each.get("class") for each in said["creationProperties"].get("filters", ())]
            settings["compression"] = "gzip" if "H5Z_FILTER_DEFLATE" in names else None
        made = group.create_dataset(name, shape, dtype, **settings)
        if not prod(shape):
            return
        client, bucket = self._service.client, self._service.access.bucket
        query = {"domain": self._domain, "bucket": bucket}
        data = client.read(f"/datasets/{said['id']}/value", query, _MOST_BYTES)
        if wire_bytes(datatype) is not None and not dtype.hasobject:
            made[...] = np.frombuffer(data, dtype.base).reshape(shape + dtype.shape)
        elif not _holds_references(datatype):
            found = to_array(unpack(data, datatype, prod(shape), lambda text: text), datatype)
            made[...] = found.reshape(shape)

    def _copy_attributes(self, place: str, thing: Any) -> None:
        for each in self._ask(f"{place}/attributes", IncludeData="1")["attributes"]:
            dtype = _h5py_dtype(parse_datatype(each["type"]))
            if each["shape"]["class"] == "H5S_NULL":
                thing.attrs[each["name"]] = h5py.Empty(dtype)
            elif not dtype.hasobject or h5py.check_string_dtype(dtype) is not None:
                value = np.array(each["value"], dtype)
                thing.attrs.create(each["name"], value, dtype=dtype)


def _h5py_dtype(datatype: Datatype) -> np.dtype[Any]:
    if isinstance(datatype, StringType) and datatype.size_bytes is None:
        return h5py.string_dtype(datatype.charset.value.lower())  # type: ignore[no-any-return]
    if isinstance(datatype, SequenceType):
        return h5py.vlen_dtype(_h5py_dtype(datatype.base))  # type: ignore[no-any-return]
    dtype = element_dtype(datatype)
    return h5py.ref_dtype if dtype.hasobject and dtype.names is None else dtype  # type: ignore[no-any-return]


def _holds_references(datatype: Datatype) -> bool:
    dtype = _h5py_dtype(datatype)
    return dtype.names is not None or h5py.check_ref_dtype(dtype) is not None

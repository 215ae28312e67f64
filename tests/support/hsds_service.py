"""A data service for tests, and HDF5 files copied into it, to the bit where it can hold them.

The service's own loader gives up on many types and loses others, so the tests have one of their
own: over the same requests that any program would make.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from h5fs.errors import H5fsError
from h5fs.store.hdf5.objects.attributes import read_attributes
from h5fs.store.hdf5.types.type_ids import describe_datatype
from h5fs.store.hsds.access import Access
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.writing.new_types import describe_type
from h5fs.store.hsds.writing.packing import pack_array

CLUSTER = Path(__file__).parents[2] / "scripts" / "hsds_cluster.py"


@dataclass(frozen=True)
class Service:
    """A service that runs. ``pids``: its nodes' by their names."""

    access: Access
    folder: str
    pids: dict[str, int]
    client: Client = field(repr=False)
    process: subprocess.Popen[str] = field(repr=False)

    def kill(self, *names: str) -> None:
        """Kill nodes, all of them where none is named."""
        for name in names or self.pids:
            os.kill(self.pids[name], signal.SIGKILL)

    def start_again(self, *names: str) -> None:
        """Start nodes that were killed, all if none is named; return when writes are answered."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(*(names or self.pids), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, "the nodes did not start again"
        self.pids.update(json.loads(line)["pids"])

    @property
    def environment(self) -> dict[str, str]:
        """What the environment says to programs that are to reach it."""
        return {
            "HS_ENDPOINT": self.access.endpoint, "HS_USERNAME": self.access.username,
            "HS_PASSWORD": self.access.password, "HS_BUCKET": self.access.bucket,
        }  # fmt: skip

    def ask(self, method: str, path: str, domain: str, body: object = None, **query: str) -> Any:
        """Return the JSON of an answer."""
        named = {"domain": domain, "bucket": self.access.bucket, **query}
        return self.client.ask(method, path, dict, named, body)

    def load(self, file: Path, name: str) -> str:
        """Copy an HDF5 file into a domain; return the domain's path."""
        domain = self.folder + name
        Loader(self, domain).load(file)
        return domain


def why_missing() -> str:
    """Return why no service can be started here; empty when one can."""
    # Not by the name of its module: a folder of these tests has that name, too.
    has_program = shutil.which("hsds-node", path=Path(sys.executable).parent) is not None
    missing = [] if has_program else ["hsds"]
    missing += [name for name in ("urllib3",) if importlib.util.find_spec(name) is None]
    return f"{missing[0]} is not installed: pip install -e '.[test]'" if missing else ""


@contextmanager
def running_service(
    folder: Path, node_count: int = 2, *, is_quick: bool = True
) -> Iterator[Service]:
    """Run a service as long as the block lasts; its processes end with it, or with this one.

    ``is_quick``: its nodes write soon what they have.
    """
    process = subprocess.Popen(
        [sys.executable, CLUSTER, folder, str(node_count), *("quick",) * is_quick],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the data service did not start"
        told = json.loads(line)
        access = Access(told["endpoint"], told["username"], told["password"], bucket=told["bucket"])
        client = Client(access)
        try:
            yield Service(access, told["folder"], told["pids"], client, process)
        finally:
            client.close()


class Loader:
    """Copies one file. ``left_out``: paths of what the service cannot hold."""

    def __init__(self, service: Service, domain: str) -> None:
        self._service = service
        self._domain = domain
        self._ids: dict[Any, str] = {}
        self.left_out: list[str] = []

    def load(self, file: Path) -> None:
        with h5py.File(file) as opened:
            with suppress(H5fsError):
                self._ask("DELETE", "/")
            root = self._ask("PUT", "/")["root"]
            self._ids[self._key(opened)] = root
            self._make_links(opened, root)
            self._fill(opened)

    def _ask(self, method: str, path: str, body: object = None, **query: str) -> Any:
        return self._service.ask(method, path, self._domain, body, **query)

    def _key(self, thing: Any) -> Any:
        return h5py.h5o.get_info(thing.id).addr

    def _make_links(self, group: h5py.Group, group_id: str) -> None:
        for name in group:
            link = group.get(name, getlink=True)
            place = f"/groups/{group_id}/links"
            if isinstance(link, h5py.SoftLink):
                body: dict[str, Any] = {"h5path": link.path}
            elif isinstance(link, h5py.ExternalLink):
                body = {"h5path": link.path, "h5domain": link.filename}
            else:
                thing = group[name]
                known = self._ids.get(self._key(thing))
                try:
                    body = {"id": known or self._make(thing)}
                except (H5fsError, KeyError, TypeError) as error:
                    self.left_out.append(f"{thing.name}: {error}")
                    continue
            self._ask("PUT", place, {"links": {name: body}})

    def _make(self, thing: Any) -> str:
        if isinstance(thing, h5py.Group):
            made = self._ask("POST", "/groups", {})["id"]
            self._ids[self._key(thing)] = made
            self._make_links(thing, made)
            return made
        type_id = thing.id if isinstance(thing, h5py.Datatype) else thing.id.get_type()
        type_json = describe_type(describe_datatype(type_id))
        if isinstance(thing, h5py.Datatype):
            made = self._ask("POST", "/datatypes", {"type": type_json})["id"]
        else:
            body: dict[str, Any] = {"type": type_json, "shape": list(thing.shape or ())}
            body["creationProperties"] = creation = {}
            if thing.shape is None:
                body["shape"] = "H5S_NULL"
            elif thing.shape == ():
                del body["shape"]
            elif thing.chunks:
                body["maxdims"] = [size or 0 for size in thing.maxshape]
                creation["layout"] = {"class": "H5D_CHUNKED", "dims": list(thing.chunks)}
                if thing.compression:
                    creation["filters"] = [
                        {"class": "H5Z_FILTER_DEFLATE", "id": 1, "level": 4, "name": "deflate"}
                    ]
            if thing.dtype.kind in "iuf" and thing.shape and thing.fillvalue:
                creation["fillValue"] = thing.fillvalue.item()
            made = self._ask("POST", "/datasets", body)["id"]
        self._ids[self._key(thing)] = made
        return made

    def _fill(self, opened: h5py.File) -> None:
        filled: set[Any] = set()
        for thing in [opened, *_objects_of(opened)]:
            key = self._key(thing)
            object_id = self._ids.get(key)
            if object_id is None or key in filled:
                continue
            filled.add(key)
            if isinstance(thing, h5py.Dataset) and thing.size and _is_written(thing):
                self._write(thing, object_id)
            self._write_attributes(thing, object_id)

    def _write(self, thing: h5py.Dataset, object_id: str) -> None:
        datatype = describe_datatype(thing.id.get_type())
        array = np.asarray(thing[()], thing.dtype.base)
        if thing.dtype.subdtype is not None and thing.dtype.hasobject:
            datatype = datatype.base  # type: ignore[union-attr]
        data = pack_array(array, datatype, self._reference_to(thing))
        path = f"/datasets/{object_id}/value"
        self._service.client.write(
            path, {"domain": self._domain, "bucket": self._service.access.bucket}, data
        )

    def _write_attributes(self, thing: Any, object_id: str) -> None:
        collection = {"g": "groups", "d": "datasets", "t": "datatypes"}[object_id[0]]
        for attribute in read_attributes(thing.id):
            try:
                body = {"type": describe_type(attribute.type)}  # type: ignore[union-attr]
                body["shape"] = "H5S_NULL"
                if attribute.shape is not None:  # type: ignore[union-attr]
                    body["shape"] = list(attribute.shape)  # type: ignore[union-attr]
                    value = thing.attrs[attribute.name.decode()]
                    body["value"] = self._to_json(value, thing)
                    if not attribute.shape:  # type: ignore[union-attr]
                        del body["shape"]
                self._ask(
                    "PUT", f"/{collection}/{object_id}/attributes",
                    {"attributes": {attribute.name.decode(): body}},
                )  # fmt: skip
            except (H5fsError, KeyError, TypeError) as error:
                self.left_out.append(f"{thing.name}@{attribute.name!r}: {error}")

    def _to_json(self, value: Any, thing: Any) -> Any:
        if isinstance(value, h5py.Reference):
            return self._reference_to(thing)(value).decode() if value else ""
        if isinstance(value, np.ndarray):
            return [self._to_json(each, thing) for each in value]
        if isinstance(value, np.void) and value.dtype.names:
            return [self._to_json(each, thing) for each in value]
        if isinstance(value, complex | np.complexfloating):
            return [float(value.real), float(value.imag)]
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, np.void):
            import base64

            return base64.b64encode(value.tobytes()).decode()
        return value.item() if isinstance(value, np.generic) else value

    def _reference_to(self, thing: Any) -> Any:
        def text(reference: Any) -> bytes:
            if not reference:
                return b""
            target = self._ids[h5py.h5o.get_info(thing.file[reference].id).addr]
            collection = {"g": "groups", "d": "datasets", "t": "datatypes"}[target[0]]
            return f"{collection}/{target}".encode()

        return text


@contextmanager
def service_for_mounts(folder: Path) -> Iterator[Service]:
    """Run a service that mounts of this process find; skip the test where there is none."""
    if why_missing():
        pytest.skip(why_missing())
    with running_service(folder) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


def _objects_of(group: h5py.Group) -> Iterator[Any]:
    found: list[Any] = []
    group.visititems(lambda _, thing: found.append(thing))
    return iter(found)


def _is_written(thing: h5py.Dataset) -> bool:
    return not thing.chunks or thing.id.get_num_chunks() > 0

"""A domain of a data service as a store: no HDF5 library, no file, no worker.

Every call asks the service, but for what ``link_map`` and ``remote_array`` keep.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Final, TypeVar

import msgspec

from h5fs.errors import (
    CannotOpenError,
    ForbiddenError,
    GoneError,
    H5fsError,
    NotFoundError,
    UnreadableError,
    show_path,
)
from h5fs.model.datatypes import Datatype
from h5fs.model.file_status import FileStatus, SpaceStatus
from h5fs.model.link_table import LinkTable
from h5fs.model.objects import (
    Attribute,
    DatasetInfo,
    Layout,
    Link,
    ObjectInfo,
    ObjectKind,
    ObjectRef,
    StorageInfo,
    UnnamedTarget,
    UnreadableAttribute,
)
from h5fs.model.settings import ExternalPolicy
from h5fs.projection.views.rendering import render_view
from h5fs.projection.views.view_requests import ViewRequest
from h5fs.store.hidden_names import is_hidden
from h5fs.store.hsds.answers import (
    AllLinksAnswer,
    AttributesAnswer,
    DomainAnswer,
    LinkAnswer,
    LinksAnswer,
    ObjectAnswer,
)
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.connections import MOST_REQUESTS
from h5fs.store.hsds.creation_properties import describe_filters, fill_value_of
from h5fs.store.hsds.datatype_json import parse_datatype
from h5fs.store.hsds.domains import Domain, describe_file, describe_space
from h5fs.store.hsds.link_map import LinkMaps
from h5fs.store.hsds.object_descriptions import (
    KINDS,
    check_id,
    describe_array,
    describe_object,
    join_path,
    make_attribute,
    make_link,
    make_table,
    name_of,
    number_of,
    path_of,
)
from h5fs.store.hsds.reading import DatasetReaders
from h5fs.store.hsds.unpacking import TargetOf
from h5fs.store.interface import ArrayPart
from h5fs.store.resolving import Resolver
from h5fs.store.statistics import CacheStatistics, StoreStatistics

_Answer = TypeVar("_Answer", bound=msgspec.Struct)

_MOST_OBJECT_BYTES: Final = 16 << 20
_MOST_ATTRIBUTE_BYTES: Final = 1 << 28


_UNREADABLE: Final = ObjectKind.UNREADABLE


class HsdsStore:
    """Answers the questions of ``h5fs.store.interface.Store``.

    ``_lock`` protects ``_ids``, which objects there are by their numbers, and ``_domains``, in the
    order of file numbers, with their fields; nothing else is taken while it is held.
    """

    def __init__(
        self, client: Client, domain: str, bucket: str, external: ExternalPolicy, cache_bytes: int
    ) -> None:
        self._client = client
        self._external = external
        self._bucket = {"bucket": bucket} if bucket else {}
        self._lock = threading.Lock()
        self._ids: dict[tuple[int, int], str] = {}
        self._domains = [Domain(domain)]
        self._executor = ThreadPoolExecutor(MOST_REQUESTS, "h5fs-hsds")
        self._readers = DatasetReaders(client, self._executor, cache_bytes)

    def open(self) -> None:
        """Look at the domain. Raises ``CannotOpenError``."""
        name = self._domains[0].name
        try:
            self.root()
        except (NotFoundError, GoneError):
            raise CannotOpenError(f"{self._client.name} has no domain {name}") from None
        except H5fsError as error:
            raise CannotOpenError(f"{name}: {error}") from None

    def root(self, file: int = 0) -> ObjectInfo:
        return self._describe(self._root_id(file), file, b"/")

    def describe_object(self, ref: ObjectRef) -> ObjectInfo:
        """Return what an object's header says now."""
        return self._describe(self._id_of(ref), ref.file, ref.path)

    def list_links(self, group: ObjectRef) -> LinkTable:
        group_id = self._group_id(group)
        links = self._maps(group.file).for_listing().get(group_id)
        if links is None:
            found = self._get(path_of(group_id) + "/links", LinksAnswer, group.file)
            links = found.links
        links = [link for link in links if not is_hidden(group.path, name_of(link))]
        return make_table(group, self._look_at(links, group))

    def get_link(self, group: ObjectRef, name: bytes) -> Link:
        group_id, path = self._group_id(group), join_path(group.path, name)
        missing = NotFoundError(f"no link {show_path(path)}")
        try:
            title = name.decode()
        except UnicodeDecodeError:
            raise missing from None
        if is_hidden(group.path, name) or "/" in title or not title:
            raise missing
        try:
            # The name is in the body, since ".." and odd characters are changed in a URL.
            found = self._client.ask(
                "POST", path_of(group_id) + "/links", LinksAnswer, self._query(group.file),
                {"titles": [title]},
            )  # fmt: skip
        except GoneError:
            raise missing from None
        links = [link for link in found.links if link.title == title]
        if not links:
            raise missing
        return self._look_at_one(links[0], group)

    def follow(self, group: ObjectRef, link: Link) -> ObjectInfo:
        return Resolver(self).follow(group, link)

    def find_link(self, group: ObjectRef, path: bytes) -> tuple[ObjectRef, Link | None]:
        return Resolver(self).find_link(group, path)

    def find_external(self, name: bytes, *, linking_file: int) -> int:
        """Return the number of the domain that an external link names (for the resolver)."""
        text = name.decode("utf-8", "replace").removeprefix("hdf5:/")
        folder = PurePosixPath(self._domain(linking_file).name).parent
        wanted = folder / text
        parts = wanted.parts
        if ".." in parts:
            raise ForbiddenError(f"{wanted}: a path of a domain that leads upwards")
        own = PurePosixPath(self._domains[0].name).parent
        if self._external is ExternalPolicy.NONE:
            raise ForbiddenError(f"{wanted}: -o external=none")
        if self._external is ExternalPolicy.FOLDER and not wanted.is_relative_to(own):
            raise ForbiddenError(f"{wanted} is not below {own} (-o external=all allows it)")
        with self._lock:
            names = [domain.name for domain in self._domains]
            if str(wanted) not in names:
                self._domains.append(Domain(str(wanted)))
                return len(names)
            return names.index(str(wanted))

    def describe_dataset(self, ref: ObjectRef) -> DatasetInfo:
        answer = self._ask_for_dataset(ref)
        return self._readers.open(answer, self._query(ref.file), self._target_of(ref.file))

    def describe_storage(self, ref: ObjectRef) -> StorageInfo:
        answer = self._ask_for_dataset(ref)
        info, datatype = describe_array(answer)
        chunk_shape = answer.chunk_shape(len(info.shape or ()))
        assert answer.shape is not None
        return StorageInfo(
            layout=Layout.CHUNKED if chunk_shape else Layout.CONTIGUOUS,
            shape=info.shape,
            maxshape=answer.shape.max_shape(),
            chunk_shape=chunk_shape,
            filters=describe_filters(answer),
            fill_value=fill_value_of(answer, datatype),
            storage_size_bytes=info.storage_size_bytes,
        )

    def read_attributes(self, ref: ObjectRef) -> tuple[Attribute | UnreadableAttribute, ...]:
        answer = self._get(
            path_of(self._id_of(ref)) + "/attributes", AttributesAnswer, ref.file,
            {"IncludeData": "1", "encoding": "base64"}, most_bytes=_MOST_ATTRIBUTE_BYTES,
        )  # fmt: skip
        found = {each.name: make_attribute(each, self._target_of(ref.file)) for each in
                 answer.attributes}  # fmt: skip
        names = sorted(found, key=lambda name: name.encode("utf-8", "surrogatepass"))
        return tuple(found[name] for name in names)

    def describe_datatype(self, ref: ObjectRef) -> Datatype:
        answer = self._object(self._id_of(ref), ref.file)
        if KINDS[answer.id[0]] is not ObjectKind.DATATYPE:
            raise UnreadableError(f"{show_path(ref.path)} is no committed datatype")
        return parse_datatype(answer.type)

    def read_into(
        self,
        ref: ObjectRef,
        dataset: DatasetInfo,
        part: ArrayPart,
        offset: int,
        buffer: memoryview,
    ) -> None:
        if not self._readers.read_into(dataset, part, offset, buffer):
            answer = self._ask_for_dataset(ref)
            query, target_of = self._query(ref.file), self._target_of(ref.file)
            self._readers.open_as(dataset, answer, query, target_of)
            self._readers.read_into(dataset, part, offset, buffer)

    def forget_values(self, ref: ObjectRef) -> None:
        """Forget what was read of a dataset, or ahead: reads that begin now ask the service."""
        self._readers.forget_values(self._id_of(ref))

    def make_view(
        self, ref: ObjectRef, request: ViewRequest, data: bytes, buffer: memoryview
    ) -> None:
        del ref
        buffer[:] = render_view(request, data)  # there are no workers: no library reads the data

    def attributes_at_hand(self, _ref: ObjectRef) -> bytes | None:
        return None

    def file_status(self, file: int) -> FileStatus:
        return describe_file(self._ask_for_domain(file))

    def file_system_status(self) -> SpaceStatus:
        return describe_space(self._ask_for_domain(0))

    def statistics(self) -> StoreStatistics:
        cache = self._readers.cache
        return StoreStatistics(
            CacheStatistics(
                cache.used_bytes, cache.limit_bytes, hits=cache.hits, misses=cache.misses
            )
        )

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def _query(self, file: int) -> dict[str, str]:
        return {"domain": self._domain(file).name, **self._bucket}

    def _get(
        self,
        path: str,
        shape: type[_Answer],
        file: int,
        query: dict[str, str] | None = None,
        *,
        most_bytes: int = _MOST_OBJECT_BYTES * 16,
    ) -> _Answer:
        return self._client.get(
            path, shape, {**self._query(file), **(query or {})}, most_bytes=most_bytes
        )

    def _domain(self, file: int) -> Domain:
        with self._lock:
            if not 0 <= file < len(self._domains):
                raise UnreadableError(f"there is no file {file}")
            return self._domains[file]

    def _ask_for_domain(self, file: int) -> DomainAnswer:
        try:
            return self._get("/", DomainAnswer, file, {"verbose": "1"})
        except GoneError:
            raise CannotOpenError(f"there is no domain {self._domain(file).name}") from None

    def _root_id(self, file: int) -> str:
        domain = self._domain(file)
        answer = self._get("/", DomainAnswer, file)
        if not answer.root:
            raise CannotOpenError(f"{domain.name} is a folder; a URL of a folder ends in /")
        domain.root = check_id(answer.root)
        return domain.root

    def _maps(self, file: int) -> LinkMaps:
        domain = self._domain(file)
        root = domain.root or self._root_id(file)
        with self._lock:
            if domain.maps is None or domain.maps.root != root:  # it may be another one by now
                domain.maps = LinkMaps(root, functools.partial(self._fetch_links, file, root))
            return domain.maps

    def _fetch_links(self, file: int, root: str, most_bytes: int) -> AllLinksAnswer:
        path, query = path_of(root) + "/links", {"follow_links": "1"}
        return self._get(path, AllLinksAnswer, file, query, most_bytes=most_bytes)

    def _look_at(self, links: list[LinkAnswer], group: ObjectRef) -> Iterable[Link]:
        """Return links with what the headers of their objects say, many asked at a time."""
        look = functools.partial(self._look_safely, group=group)
        return self._executor.map(look, links) if len(links) > 1 else map(look, links)

    def _look_safely(self, link: LinkAnswer, group: ObjectRef) -> Link:
        """Return a link whose object is unreadable when nothing comes back about it."""
        try:
            return self._look_at_one(link, group)
        except H5fsError:
            path = join_path(group.path, name_of(link))
            return make_link(link, ObjectInfo(ObjectRef(group.file, 0, path), _UNREADABLE))

    def _look_at_one(self, link: LinkAnswer, group: ObjectRef) -> Link:
        if link.kind != "H5L_TYPE_HARD":
            return make_link(link, None)
        path = join_path(group.path, name_of(link))
        return make_link(link, self._describe(check_id(link.id), group.file, path))

    def _describe(self, object_id: str, file: int, path: bytes) -> ObjectInfo:
        answer = self._object(object_id, file)
        info = describe_object(answer, file, path, self._maps(file).count_of(object_id))
        with self._lock:
            self._ids[file, info.ref.id] = object_id
        return info

    def _object(self, object_id: str, file: int) -> ObjectAnswer:
        answer = self._get(path_of(object_id), ObjectAnswer, file, most_bytes=_MOST_OBJECT_BYTES)
        if answer.id != object_id:
            raise UnreadableError(f"{object_id} was asked for, and {answer.id!r:.80} came back")
        return answer

    def _id_of(self, ref: ObjectRef) -> str:
        with self._lock:
            found = self._ids.get((ref.file, ref.id))
        if found is None or number_of(found) != ref.id:
            raise UnreadableError(f"{show_path(ref.path)}: there is no such object")
        return found

    def _group_id(self, ref: ObjectRef) -> str:
        found = self._id_of(ref)
        if KINDS[found[0]] is not ObjectKind.GROUP:
            raise UnreadableError(f"{show_path(ref.path)} is not a group")
        return found

    def _ask_for_dataset(self, ref: ObjectRef) -> ObjectAnswer:
        found = self._id_of(ref)
        if KINDS[found[0]] is not ObjectKind.DATASET:
            raise UnreadableError(f"{show_path(ref.path)} is not a dataset")
        return self._object(found, ref.file)

    def _target_of(self, file: int) -> TargetOf:
        return functools.partial(self._find_target, file)

    def _find_target(self, file: int, text: bytes) -> bytes | UnnamedTarget:
        """Return what an object reference leads to, by what the service keeps: ``datasets/ID``."""
        object_id = text.decode("ascii", "replace").rpartition("/")[2]
        path = self._maps(file).path_of(object_id)
        return path if path is not None else UnnamedTarget(number_of(object_id))

"""Links of a group, and the objects that they lead to.

Keeps nothing of its own. Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import numpy as np
from h5py import h5, h5d, h5g, h5i, h5l, h5o

from h5fs.errors import NotFoundError, show_path
from h5fs.model.link_table import LinkTable
from h5fs.model.objects import Link, LinkKind, ObjectInfo, ObjectKind, ObjectRef
from h5fs.store.format.headers.peek import HEAD_BYTES, Peeked, peek_at_datatype
from h5fs.store.hdf5.library_errors import explain, reading
from h5fs.store.hdf5.objects.files import OpenFiles
from h5fs.store.hdf5.objects.link_table_builder import LinkTableBuilder
from h5fs.store.hdf5.types.sequences import is_sequence_type
from h5fs.store.hidden_names import is_hidden

_KINDS = {
    h5l.TYPE_HARD: LinkKind.HARD,
    h5l.TYPE_SOFT: LinkKind.SOFT,
    h5l.TYPE_EXTERNAL: LinkKind.EXTERNAL,
}
_OBJECT_KINDS = {
    h5o.TYPE_GROUP: ObjectKind.GROUP,
    h5o.TYPE_DATASET: ObjectKind.DATASET,
    h5o.TYPE_NAMED_DATATYPE: ObjectKind.DATATYPE,
}

_WORTH_A_SCAN = 8  # a scan costs 1 ms, whatever it looks at


class LinkReader:
    """Reads links; looks at the objects behind hard ones without opening them.

    ``most_chunk_bytes``: a dataset of larger chunks is refused when it is opened.
    """

    def __init__(
        self,
        files: OpenFiles,
        on_look: Callable[[bytes], None],
        on_progress: Callable[[], None],
        most_chunk_bytes: int,
    ) -> None:
        self._files = files
        self._most_chunk_bytes = most_chunk_bytes
        self._on_look = on_look
        self._on_progress = on_progress

    def list_links(
        self, group_id: h5g.GroupID, group: ObjectRef, unsafe: frozenset[bytes]
    ) -> LinkTable:
        """Return all links of a group, in name order: one pass, one look at each object.

        The target of an ``unsafe`` name is UNREADABLE, and the library does not look at it; an
        empty name among them stands for all. An object that cannot be read is UNREADABLE, too.
        Raises ``UnreadableError``.
        """
        found: list[tuple[bytes, int, int]] = []
        with reading(group.path):
            # In native order: for any other the library would have to sort the links first.
            group_id.links.iterate(
                lambda name, info: found.append((name, info.type, info.u)),
                info=True,
                order=h5.ITER_NATIVE,
            )
            found = [link for link in found if not is_hidden(group.path, link[0])]
            found.sort(key=itemgetter(0))
            names = [name for name, _, _ in found]
            if len(set(names)) < len(names):  # damage; only the first of a name can be reached
                found = [link for i, link in enumerate(found) if not i or names[i - 1] != link[0]]
            listing = LinkTableBuilder(
                group, [name for name, _, _ in found], may_change=self._files.is_logged(group.file)
            )
            self._look_at_headers(listing, found, group)
            for index in listing.unknown():
                name, kind, _ = found[index]
                if kind == h5l.TYPE_HARD and (name in unsafe or b"" in unsafe):
                    continue  # the target stays UNREADABLE
                self._on_look(name)
                self._on_progress()
                listing.set_link(index, self._read_link(group_id, group, name, kind))
            self._on_look(b"")
            return listing.table()

    def _look_at_headers(
        self, listing: LinkTableBuilder, found: list[tuple[bytes, int, int]], group: ObjectRef
    ) -> None:
        """Fill in what the headers of hard links' objects say, read past the library."""
        hard = [index for index, (_, kind, _) in enumerate(found) if kind == h5l.TYPE_HARD]
        layout = self._files.layout(group.file) if len(hard) >= _WORTH_A_SCAN else None
        if layout is None:
            return
        from h5fs.store.format.headers.scan import SMALL_CHUNK_BYTES, scan_headers
        from h5fs.store.hdf5.objects.scanned_links import set_scanned

        addresses = np.array([found[index][2] for index in hard], np.uint64)
        source = self._files.bytes_of(group.file)
        # From far away, what may be asked for later is not fetched.
        is_here = self._files.base_offset_of_fetched(group.file) is None
        scan = scan_headers(
            source, layout, addresses,
            largest_chunk_bytes=min(SMALL_CHUNK_BYTES, self._most_chunk_bytes) if is_here else 0,
        )  # fmt: skip
        set_scanned(listing, np.array(hard), addresses, scan, layout)

    def get_link(self, group_id: h5g.GroupID, group: ObjectRef, name: bytes) -> Link:
        """Return the link of that name. Raises ``NotFoundError``, ``UnreadableError``."""
        path = join_path(group.path, name)
        with reading(path):
            if is_hidden(group.path, name) or not group_id.links.exists(name):
                raise NotFoundError(f"no link {show_path(path)}")
        return self.read_link(group_id, group, name)

    def read_link(self, group_id: h5g.GroupID, group: ObjectRef, name: bytes) -> Link:
        """Return the link of that name, which is there. Raises ``UnreadableError``."""
        with reading(join_path(group.path, name)):
            return self._read_link(group_id, group, name, group_id.links.get_info(name).type)

    def describe_object(self, location: Any, name: bytes, *, file: int, path: bytes) -> ObjectInfo:
        """Return what an object's header says; UNREADABLE if HDF5 cannot look at the object."""
        try:
            info = h5o.get_info(location, name)
        except Exception:  # any of h5py's; opening the object will say why
            return _describe_without_info(location, name, ObjectRef(file, 0, path))
        holds_sequences = info.type == h5o.TYPE_DATASET and (
            self._holds_sequences(location, name, file=file, address=info.addr)
        )
        return _make_info(info, ObjectRef(file, info.addr, path), holds_sequences=holds_sequences)

    def _read_link(
        self, group_id: h5g.GroupID, group: ObjectRef, name: bytes, link_type: int
    ) -> Link:
        kind = _KINDS.get(link_type, LinkKind.USER_DEFINED)
        if kind is LinkKind.HARD:
            path = join_path(group.path, name)
            target = self.describe_object(group_id, name, file=group.file, path=path)
            return Link(name, kind, target=target)
        if kind is LinkKind.SOFT:
            return Link(name, kind, soft_target=group_id.links.get_val(name))
        if kind is LinkKind.EXTERNAL:
            external_file, external_path = group_id.links.get_val(name)
            return Link(name, kind, external_file=external_file, external_path=external_path)
        return Link(name, kind)

    def _holds_sequences(self, location: Any, name: bytes, *, file: int, address: int) -> bool:
        peeked = peek_at_datatype(self._files.read_raw(file, address, HEAD_BYTES))
        if peeked is Peeked.UNKNOWN:
            try:
                return is_sequence_type(h5d.open(location, name).get_type())
            except Exception:  # any of h5py's; opening the dataset will say why
                return False
        return peeked is Peeked.SEQUENCE


def look_at(identifier: Any) -> Any:
    """Return what ``H5Oget_info`` says of an open object, None where that cannot look at it."""
    try:
        return h5o.get_info(identifier)
    except Exception:  # any of h5py's
        return None


def describe_opened(
    identifier: Any, path: bytes, info: Any, *, holds_sequences: bool | None = None
) -> ObjectInfo:
    """Return what the header of an open object of the mounted file says.

    ``info``: what ``look_at`` has found. ``holds_sequences``: what is known of that already.
    """
    if info is None:
        return _describe_without_info(h5i.get_file_id(identifier), path, ObjectRef(0, 0, path))
    if holds_sequences is None:
        is_dataset = isinstance(identifier, h5d.DatasetID)
        holds_sequences = is_dataset and is_sequence_type(identifier.get_type())
    return _make_info(info, ObjectRef(0, info.addr, path), holds_sequences=holds_sequences)


def address_of(ref: ObjectRef) -> int:
    """Return where an object's header is: an HDF5 file has no better id for an object."""
    return ref.id


def join_path(group_path: bytes, name: bytes) -> bytes:
    """Return the HDF5 path of a link in a group."""
    return group_path.rstrip(b"/") + b"/" + name


def why_unreadable(location: Any, name: bytes) -> str:
    """Return HDF5's reason why an object cannot be opened."""
    try:
        h5o.open(location, name)
    except Exception as error:  # the reason is all that is wanted
        return explain(error)
    return "unknown object class"


def _make_info(info: Any, ref: ObjectRef, *, holds_sequences: bool) -> ObjectInfo:
    return ObjectInfo(
        ref=ref,
        kind=_OBJECT_KINDS.get(info.type, ObjectKind.UNREADABLE),
        attribute_count=info.num_attrs,
        hard_link_count=info.rc,
        mtime=info.mtime or info.ctime,  # an old header has one time, which HDF5 calls ctime
        ctime=info.ctime,
        atime=info.atime,
        holds_sequences=holds_sequences,
    )


def _describe_without_info(location: Any, name: bytes, ref: ObjectRef) -> ObjectInfo:
    """Look at an object that HDF5 can open, although ``H5Oget_info`` fails for it.

    The reason is damage to the attributes, or to a group's or dataset's index. The attribute file
    is listed, so that reading it says so.
    """
    try:
        address = h5g.get_objinfo(location, name).objno[0]
        identifier = h5o.open(location, name)
    except Exception:  # any of h5py's
        return ObjectInfo(ref, ObjectKind.UNREADABLE)
    kinds = {h5g.GroupID: ObjectKind.GROUP, h5d.DatasetID: ObjectKind.DATASET}
    return ObjectInfo(
        ref=ObjectRef(ref.file, address, ref.path),
        kind=kinds.get(type(identifier), ObjectKind.DATATYPE),
        attribute_count=1,
        holds_sequences=isinstance(identifier, h5d.DatasetID)
        and is_sequence_type(identifier.get_type()),
    )

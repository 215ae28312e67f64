"""Drafts into the HDF5 file: arrays, sequences, attributes, datatypes.

Functions over the store; they keep nothing. Under the tree's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import prod

import msgspec

from h5fs.errors import (
    ExistsError,
    H5fsError,
    InvalidArrayError,
    InvalidAttributesError,
    LostChangesError,
    UnsupportedTypeError,
    show_path,
)
from h5fs.model.datatypes import (
    ArrayType,
    CompoundType,
    ReferenceType,
    SequenceType,
    holds_references,
)
from h5fs.model.objects import (
    Attribute,
    ObjectInfo,
    ObjectRef,
    RegionTarget,
    UnreadableAttribute,
)
from h5fs.projection.json.attribute_file import attributes_from_json
from h5fs.projection.json.datatype_documents import check_new_datatype, datatype_from_json
from h5fs.projection.json.strict_json import parse_json
from h5fs.projection.npy import NpyHeader, parse_header
from h5fs.store.interface import ArrayFile, ArrayPart, WritingStore
from h5fs.tree.contents.content import ArrayContent, Attributes, Content, read_all
from h5fs.tree.lookup import Lookup
from h5fs.tree.writing.pending.drafts import Draft
from h5fs.tree.writing.pending.writable_file import WritableFile

_FIRST_READ_BYTES = 2**16
_MOST_HEADER_BYTES = 2**20 + 12
_MOST_JSON_BYTES = 2**28
_MOST_COMPARED_BYTES = 2**26

Waiting = Callable[[], AbstractContextManager[None]]
"""Returns a block in which the store is waited for, and nothing else is used."""


class IncompleteError(InvalidArrayError):
    """A ``.npy`` file of which more will come; ``has_data`` is false for a header alone."""

    def __init__(self, message: str, *, has_data: bool) -> None:
        super().__init__(message)
        self.has_data = has_data


def read_header(draft: Draft) -> NpyHeader:
    """Return the header of a draft, whose data are all there.

    Raises ``InvalidArrayError``, ``IncompleteError`` when bytes are missing.
    """
    header = parse_header(draft.read(0, _FIRST_READ_BYTES))
    if header is None and draft.size_bytes > _FIRST_READ_BYTES:
        header = parse_header(draft.read(0, _MOST_HEADER_BYTES))
    if header is None:
        raise IncompleteError(
            f"the header is not complete after {draft.size_bytes} bytes",
            has_data=draft.size_bytes > 0,
        )
    file_bytes = header.file_bytes
    if draft.size_bytes < file_bytes:
        raise IncompleteError(
            f"{draft.size_bytes} bytes, where an array of shape {header.shape} and dtype "
            f"{header.dtype} has {file_bytes}",
            has_data=draft.size_bytes > header.size_bytes,
        )
    if draft.size_bytes > file_bytes:
        raise InvalidArrayError(f"{draft.size_bytes - file_bytes} bytes beyond the array's end")
    return header


def array_file(
    draft: Draft, header: NpyHeader, *, is_read: bool = False, old_rows: int | None = None,
    is_new: bool = False, stored_like: ObjectRef | None = None,
) -> ArrayFile:  # fmt: skip
    """Return a draft as the store takes it. Raises ``NoSpaceError``."""
    descriptor, data = draft.lend()
    return ArrayFile(
        descriptor, draft.size_bytes, header.shape, header.dtype, header.is_fortran_order,
        header.size_bytes, is_read, old_rows, data, is_new, stored_like,
    )  # fmt: skip


def commit_array(
    store: WritingStore, group: ObjectRef, name: bytes, file: WritableFile, waiting: Waiting, *,
    is_read: bool,
) -> ObjectInfo | None:  # fmt: skip
    """Make a dataset of a draft, or change it by what the draft says; return it, if that is known.

    ``is_read``: a program reads what is there now, and shall go on reading that.
    """
    assert file.draft is not None
    header = read_header(file.draft)
    direct = file.draft.direct
    if direct is not None and direct.header == header and file.node is None:
        try:
            tail = file.draft.tail()
            with waiting():
                info = store.finish_array(group, name, direct.region, tail)
        except LostChangesError:
            # The worker that knew the dataset has died; its data are where they were written.
            file.draft.leave_direct_array()
        except H5fsError:
            file.draft.leave_direct_array()
            raise
        else:
            file.draft.end_direct_array()
            return info
    if file.draft.has_base and not is_read and _grow(store, file, header, waiting):
        return None
    old_rows = _rows_of(file.content) if file.draft.is_based else None
    lent = array_file(
        file.draft, header, is_read=is_read, old_rows=old_rows, is_new=_is_new(file),
        stored_like=file.stored_like,
    )  # fmt: skip
    with waiting():
        return store.write_array(group, name, lent)


def is_as_shown(draft: Draft, content: Content | None) -> bool:
    """Whether a draft says just what a dataset shows that is more than that: nothing to change.

    Of references, null dataspaces and sequences files show a part, which alone would make another
    dataset.
    """
    if not isinstance(content, ArrayContent) or draft.size_bytes != content.size_bytes:
        return False
    is_more = content.dataset.is_scanned or content.dataset.shape is None
    if not is_more or content.size_bytes > _MOST_COMPARED_BYTES:
        return False
    return draft.read(0, draft.size_bytes) == read_all(content)


def reads_alike(draft: Draft | None, content: Content) -> bool:
    """Whether a draft, byte by byte, is what the HDF5 file shows, so that it need not be kept."""
    if draft is None:
        return True
    if not isinstance(content, ArrayContent):
        size = content.size_bytes
        return draft.size_bytes == size and draft.read(0, size) == read_all(content)
    header = content.npy.header
    return (
        draft.size_bytes == content.size_bytes
        and draft.read(0, len(header)) == header
        and not content.dataset.is_scanned
    )


def _rows_of(content: Content | None) -> int | None:
    shape = content.npy.shape if isinstance(content, ArrayContent) else ()
    return shape[0] if shape else None


def _grow(store: WritingStore, file: WritableFile, header: NpyHeader, waiting: Waiting) -> bool:
    """Change a dataset's shape and write what was written; False when it takes a new array."""
    content, draft = file.content, file.draft
    if not isinstance(content, ArrayContent) or draft is None or header.is_fortran_order:
        return False
    if content.part is not ArrayPart.ELEMENTS or len(content.npy.header) != header.size_bytes:
        return False
    old, dtype = content.npy, content.dataset.dtype
    trailing = len(dtype.shape)
    shape = header.shape[: len(header.shape) - trailing] if trailing else header.shape
    is_like = dtype.base == header.dtype.base and old.shape[1:] == shape[1:] and shape != ()
    if not is_like or len(old.shape) != len(shape):
        return False
    start = header.size_bytes
    changed = draft.complete_changes(start, dtype.itemsize) if dtype.itemsize else ()
    ranges = tuple((low - start, high - start) for low, high in changed)
    lent = ArrayFile(
        draft.descriptor, draft.size_bytes, shape, dtype, False, start, False, _rows_of(content)
    )  # fmt: skip
    with waiting():
        return store.change_array(content.ref, lent, ranges)


def commit_sequences(
    store: WritingStore, group: ObjectRef, name: bytes, values_file: WritableFile,
    offsets_file: WritableFile,
) -> None:  # fmt: skip
    """Make a dataset of variable-length sequences of its two files."""
    values, offsets = values_file.draft, offsets_file.draft
    assert values is not None
    assert offsets is not None
    values_header, offsets_header = read_header(values), read_header(offsets)
    if offsets_header.dtype.kind not in "iu" or len(offsets_header.shape) != 1:
        raise InvalidArrayError("offsets must be integers, in one dimension")
    if prod(offsets_header.shape) < 1:
        raise InvalidArrayError("there is one offset more than sequences")
    store.write_sequences(
        group, name, array_file(values, values_header, is_new=_is_new(values_file)),
        array_file(offsets, offsets_header, is_new=_is_new(offsets_file)),
    )  # fmt: skip


def _is_new(file: WritableFile) -> bool:
    """Whether a file stands for no object yet, and has the name with which it was made."""
    return file.node is None and file.made_at == file.path


def refers_to_objects(draft: Draft) -> bool:
    """Return whether a draft of attributes refers to objects. Raises ``InvalidAttributesError``."""
    if draft.size_bytes > _MOST_JSON_BYTES:
        raise InvalidAttributesError(f"{draft.size_bytes} bytes of JSON")
    data = draft.read(0, draft.size_bytes)
    return any(holds_references(each.type) for each in attributes_from_json(data))


@dataclass(frozen=True)
class AttributePlan:
    """How an object gets the attributes that a draft says.

    ``existing``: those that it has. ``changed``, ``gone``: what it gets, and the names of those
    that it loses. ``targets``: the absolute HDF5 paths that the references in each of the changed
    ones lead to, by its name, where there are any.
    """

    existing: Attributes
    changed: tuple[Attribute, ...]
    gone: tuple[bytes, ...]
    targets: Mapping[bytes, frozenset[bytes]]

    @property
    def is_empty(self) -> bool:
        """Whether the object has all that the draft says, and no more."""
        return not (self.changed or self.gone)

    def apply(
        self, store: WritingStore, owner: ObjectInfo, waiting: Waiting = nullcontext, *,
        in_part: bool = False,
    ) -> tuple[tuple[bytes, ...], ObjectInfo, Attributes]:  # fmt: skip
        """Write the attributes, if all that they refer to is there.

        Return the paths that are not there, the object and its attributes as they are then. Where
        paths are not there nothing is written but, if ``in_part``, those attributes that can be.
        """
        paths = frozenset[bytes]().union(*self.targets.values())
        missing = store.find_missing(tuple(sorted(paths))) if paths else ()
        if missing and not in_part:
            return missing, owner, self.existing
        none = frozenset[bytes]()
        changed = tuple(
            each for each in self.changed if self.targets.get(each.name, none).isdisjoint(missing)
        )
        if not (changed or self.gone):
            return missing, owner, self.existing
        with waiting():
            found, attributes = store.write_attributes(owner.ref, changed, self.gone)
        # The header has changed, and not what is known of the data.
        owner = msgspec.structs.replace(
            owner, attribute_count=found.attribute_count, mtime=found.mtime, ctime=found.ctime,
            atime=found.atime,
        )  # fmt: skip
        return missing, owner, attributes


def existing_attributes(
    store: WritingStore, lookup: Lookup, owner: ObjectInfo, waiting: Waiting = nullcontext
) -> Attributes:
    """Return the attributes that an object has; others may have given it some that ``owner`` does
    not count, where the file is shared."""
    if not (owner.attribute_count or lookup.is_shared):
        return ()
    known = None if lookup.is_shared else lookup.known_attributes(owner.ref)
    if known is None:
        with waiting():
            known = tuple(store.read_attributes(owner.ref))
    return known


def plan_attributes(
    existing: Attributes, draft: Draft, *, before: bytes | None = None
) -> AttributePlan:
    """Find out what must be done to give an object the attributes that a draft says.

    ``existing``: those that it has. ``before``: the text that the draft was made of; then
    attributes that are the same in both stay as they are by now, and so do those that are in
    neither. Raises ``InvalidAttributesError``.
    """
    if draft.size_bytes > _MOST_JSON_BYTES:
        raise InvalidAttributesError(f"{draft.size_bytes} bytes of JSON")
    data = draft.read(0, draft.size_bytes)
    wanted = attributes_from_json(data, existing)
    known = {old.name: old for old in existing if isinstance(old, Attribute)}
    changed = tuple(each for each in wanted if known.get(each.name) != each)
    old = {each.name: each for each in _attributes_before(before, existing)}
    if before is not None:
        changed = tuple(each for each in changed if old.get(each.name) != each)
    kept = {each.name for each in wanted}
    gone = tuple(name for name in known if name not in kept and (before is None or name in old))
    targets = {each.name: frozenset(reference_targets(each)) for each in changed}
    targets = {name: paths for name, paths in targets.items() if paths}
    return AttributePlan(existing, changed, gone, targets)


def _attributes_before(
    text: bytes | None, existing: Sequence[Attribute | UnreadableAttribute]
) -> tuple[Attribute, ...]:
    try:
        return tuple(attributes_from_json(text, existing)) if text else ()
    except InvalidAttributesError:  # what it left open is said by attributes that are not there
        return ()


def reference_targets(attribute: Attribute) -> Iterator[bytes]:
    """Yield the absolute HDF5 paths that an attribute's references lead to."""
    if not holds_references(attribute.type):
        return
    waiting = list(attribute.elements)
    types = [attribute.type] * len(waiting)
    while waiting:
        element, datatype = waiting.pop(), types.pop()
        if isinstance(datatype, ReferenceType):
            path = element.path if isinstance(element, RegionTarget) else element
            if isinstance(path, bytes) and path.startswith(b"/"):
                yield path
        elif isinstance(datatype, CompoundType):
            waiting += element
            types += [member.type for member in datatype.members]
        elif isinstance(datatype, ArrayType | SequenceType):
            waiting += element
            types += [datatype.base] * len(element)


def delete_attributes(store: WritingStore, ref: ObjectRef) -> tuple[Attribute, ...]:
    """Delete all attributes of an object that can be read, and those that cannot; return those that
    could be read."""
    existing = store.read_attributes(ref)
    store.write_attributes(ref, (), tuple(each.name for each in existing))
    return tuple(each for each in existing if isinstance(each, Attribute))


def commit_datatype(
    store: WritingStore, group: ObjectRef, name: bytes, draft: Draft, old: Callable[[], bytes]
) -> None:
    """Commit the datatype that a draft says; ``old`` returns the text of the one that is there."""
    if draft.size_bytes > _MOST_JSON_BYTES:
        raise InvalidAttributesError(f"{draft.size_bytes} bytes of JSON")
    data = draft.read(0, draft.size_bytes)
    if data == old():
        return
    datatype = datatype_from_json(parse_json(data))
    check_new_datatype(datatype)
    try:
        store.create_datatype(group, name, datatype)
    except ExistsError:
        raise UnsupportedTypeError(
            f"{show_path(name)}: a committed datatype cannot be changed: datasets may have it"
        ) from None

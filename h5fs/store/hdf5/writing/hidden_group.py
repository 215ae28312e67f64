"""The hidden group (``h5fs.store.hidden_names``) in an HDF5 file that is open to write.

Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

from h5py import h5f, h5g, h5l, h5o

from h5fs.errors import InvalidNameError, UnreadableError, show_path
from h5fs.model.objects import ObjectRef
from h5fs.store.hdf5.objects.attributes import list_names
from h5fs.store.hdf5.objects.links import address_of, join_path
from h5fs.store.hdf5.writing.compact_groups import compact_properties
from h5fs.store.hdf5.writing.creating import link_properties
from h5fs.store.hidden_names import (
    HIDDEN_GROUP,
    HIDDEN_PATH,
    is_hidden,
    is_nameless,
    is_own,
    nameless_name,
)

_log = logging.getLogger(__name__)

_USUAL_COUNT = 40  # what a program has removed last, and some that are open


def check_visible(group_path: bytes, name: bytes) -> None:
    """Raise ``InvalidNameError`` for the hidden group's name."""
    if is_hidden(group_path, name):
        raise InvalidNameError(f"{show_path(HIDDEN_PATH)}: a name that h5fs has for itself")


def find_hidden(file_id: h5f.FileID) -> h5g.GroupID | None:
    """Return the hidden group, None when there is none."""
    root = h5g.open(file_id, b"/")
    if not root.links.exists(HIDDEN_GROUP) or (
        root.links.get_info(HIDDEN_GROUP).type != h5l.TYPE_HARD
    ):
        return None
    identifier = h5o.open(root, HIDDEN_GROUP)
    return identifier if isinstance(identifier, h5g.GroupID) else None


def make_hidden(file_id: h5f.FileID) -> h5g.GroupID:
    """Return the hidden group, made where there is none."""
    hidden = find_hidden(file_id)
    if hidden is not None:
        return hidden
    root = h5g.open(file_id, b"/")
    properties = compact_properties(
        _USUAL_COUNT, link_order=root.get_create_plist().get_link_creation_order()
    )
    return h5g.create(root, HIDDEN_GROUP, link_properties(HIDDEN_GROUP), properties)


def remove_hidden(file_id: h5f.FileID, hidden: h5g.GroupID) -> None:
    """Remove what mounts have put into the hidden group; and the group, if nothing else is in it.

    The file may have had a group of that name from elsewhere.
    """
    for name in list(hidden):
        if is_own(name) and can_be_deleted(hidden, name):
            hidden.unlink(name)
    if len(hidden):
        _log.warning(
            "%s has links in it that h5fs has not made, or that the HDF5 library cannot delete: "
            "they stay, and no mount shows them", show_path(HIDDEN_PATH),
        )  # fmt: skip
        return
    root = h5g.open(file_id, b"/")
    root.unlink(HIDDEN_GROUP)


def find_nameless(file_id: h5f.FileID) -> list[bytes]:
    """Return the names of objects with no other link: when a mount begins, nobody has them open.

    Those that cannot be deleted are left out.
    """
    hidden = find_hidden(file_id)
    if hidden is None:
        return []
    return [name for name in list(hidden) if is_nameless(name) and can_be_deleted(hidden, name)]


def can_be_deleted(group: h5g.GroupID, name: bytes) -> bool:
    """Whether the library can delete a link, and with it an object: in a damaged file not one with
    an attribute that it cannot decode. A change that fails costs the worker."""
    if group.links.get_info(name).type != h5l.TYPE_HARD:
        return True
    try:
        list_names(h5o.open(group, name))
    except Exception:  # any of h5py's
        return False
    return True


def unlink_or_keep(
    group: h5g.GroupID, name: bytes, info: Any, opened: Collection[int],
    make_hidden: Callable[[], h5g.GroupID],
) -> None:  # fmt: skip
    """Remove a link; keep its object, if that is ``opened`` and has no other link.

    A committed datatype may have one: HDF5 counts the datasets that are of it, too. ``info``: what
    the library says of the link. ``make_hidden`` returns the hidden group.
    """
    if opened and info.type == h5l.TYPE_HARD and info.u in opened:
        found = h5o.get_info(group, name)
        is_last = found.rc == 1 or found.type == h5o.TYPE_NAMED_DATATYPE
        # One that can never be deleted keeps its name, as if nobody had it open.
        if is_last and (not found.num_attrs or can_be_deleted(group, name)):
            hidden, kept_name = make_hidden(), nameless_name(found.addr)
            if found.rc == 1 or not hidden.links.exists(kept_name):
                # The object's header stays as it is, other than with a second link for a moment.
                group.links.move(name, hidden, kept_name, link_properties(kept_name))
                return
    group.unlink(name)


def keep_nameless(file_id: h5f.FileID, object_id: Any) -> None:
    """Link an object that is about to lose its last name into the hidden group."""
    name, hidden = nameless_name(h5o.get_info(object_id).addr), make_hidden(file_id)
    if not hidden.links.exists(name):
        h5o.link(object_id, hidden, name, link_properties(name))


def drop_nameless(file_id: h5f.FileID, object_id: Any) -> None:
    """Delete the link of ``keep_nameless``."""
    make_hidden(file_id).unlink(nameless_name(h5o.get_info(object_id).addr))


def changed_without(group: h5g.GroupID, name: bytes, info: Any) -> tuple[int, ...] | None:
    """Return the ids of objects whose data may go with a link; None where these are not known.

    ``info``: what the library says of the link.
    """
    if info.type != h5l.TYPE_HARD:
        return ()
    try:
        found = h5g.get_objinfo(group, name)
        has_members = found.type == h5g.GROUP and len(h5g.open(group, name)) > 0
    except Exception:  # any of h5py's: nobody knows what it is
        return None
    return None if has_members else (info.u,)


def any_has_members(group: h5g.GroupID, names: Iterable[bytes]) -> bool:
    """Whether objects would lose their paths with any of these links, or that is not known."""
    return any(changed_without(group, each, group.links.get_info(each)) is None for each in names)


def leads_to(file_id: h5f.FileID, path: bytes, address: int) -> bool:
    """Whether a path of hard links leads to the object at an address, readable or not."""
    if path == b"/":
        return True
    with suppress(Exception):  # any of h5py's: the object cannot be looked at, or there is none
        # This tells less than `h5o.get_info`, in a third of the time.
        return bool(h5g.get_objinfo(file_id, path).objno[0] == address)
    folder, _, name = path.rpartition(b"/")
    with suppress(Exception):  # any of h5py's: there is no such group
        group = h5g.open(file_id, folder or b"/")
        return bool(group.links.exists(name) and group.links.get_info(name).u == address)
    return False


def as_named_now(file_id: h5f.FileID, ref: ObjectRef, on_progress: Callable[[], None]) -> ObjectRef:
    """Return an object of the mounted file with a path that leads to it, as a rule its own.

    A program that has the object open knows it by the name that it had then. Raises
    ``UnreadableError``.
    """
    if ref.file != 0 or leads_to(file_id, ref.path, address_of(ref)):
        return ref
    path = find_path(file_id, address_of(ref), on_progress)
    if path is None:
        raise UnreadableError(f"{show_path(ref.path)}: it is gone, and so is its object")
    return ObjectRef(ref.file, ref.id, path)


def find_path(file_id: h5f.FileID, address: int, on_progress: Callable[[], None]) -> bytes | None:
    """Return a path to the object at an address, hidden or not, after its own became another's."""
    hidden = find_hidden(file_id)
    if hidden is not None and hidden.links.exists(nameless_name(address)):
        return join_path(HIDDEN_PATH, nameless_name(address))

    def visit(name: bytes, info: Any) -> bytes | None:
        on_progress()
        return b"/" + name if info.type == h5l.TYPE_HARD and info.u == address else None

    root = h5g.open(file_id, b"/")
    found: bytes | None = root.links.visit(visit, info=True)
    return found

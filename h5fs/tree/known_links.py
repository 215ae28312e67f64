"""Links of groups that were asked for, so that nobody asks for them again.

What is known of a group is its whole list, once somebody has read it, with what has changed since;
else single links, and names that are not there. Safe to use from any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct, field, structs

from h5fs.errors import H5fsError, NotFoundError, StaleError
from h5fs.lru_cache import LruCache
from h5fs.model.link_table import Links, LinkTable
from h5fs.model.objects import Attribute, Link, ObjectInfo, ObjectRef, UnreadableAttribute
from h5fs.store.interface import Store
from h5fs.tree.nodes import Node

_LISTING_BYTES_KEPT = 64 * 2**20
_LINKS_KEPT = 8192
_CHANGES_KEPT = 20_000
"""How many links of one group may have changed since it was listed."""

_FIRST_CHANGED_LINKS = 8


class _NotThere:
    """Stands for a link that a group does not have."""


_NOT_THERE = _NotThere()
Known = Link | _NotThere
_NO_LINKS = Links(LinkTable(ObjectRef(0, 0, b"/"), b"", b"", b"", (), {}))  # of any group

# File and id of a group: an ``ObjectRef`` is hashed by a function of Python's.
_Group = tuple[int, int]


class _Listed(Struct, eq=False):
    """A list of links; ``changed``: those that changed since, None for what is not known now."""

    links: Links
    changed: dict[bytes, Known | None] = field(default_factory=dict)
    found: tuple[bytes, Known] | None = None  # in ``links``, by who has asked last

    def find(self, name: bytes) -> Known:
        """Return what is known of a name that has not changed since."""
        found = self.found
        if found is None or found[0] != name:
            index = self.links.find(name)
            found = self.found = name, _NOT_THERE if index is None else self.links[index]
        return found[1]


class LinkChange(Struct, eq=False):
    """What is known of a link after the change that the block of a ``with`` makes.

    ``end`` is called with it after the block, and with whether that has failed. ``folder`` and
    ``name`` are those of the link, and ``known`` what was known of it before; without a folder
    anything may have changed, and what is set below is passed over.

    ``is_alone``: its object is found by no other path, as far as is known. ``link``: the link, None
    where it must be asked for. ``is_gone``: there is none any more. ``is_empty_group``: it leads to
    a group without links. ``attributes``: those of its object, where they are known.
    """

    end: Callable[[LinkChange, bool], None]
    folder: Node | None = None
    name: bytes = b""
    known: Known | None = None
    is_alone: bool = False
    link: Link | None = None
    is_gone: bool = False
    is_empty_group: bool = False
    attributes: tuple[Attribute | UnreadableAttribute, ...] = ()

    def __enter__(self) -> LinkChange:
        return self

    def __exit__(self, kind: object, *_error: object) -> None:
        self.end(self, kind is not None)


class NoticingReplaced:
    """A block that calls ``forget`` when it finds that a file that links lead to was replaced."""

    __slots__ = ("_forget",)

    def __init__(self, forget: Callable[[], None]) -> None:
        self._forget = forget

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, StaleError):
            self._forget()


class KnownLinks:
    """Links by group and name. ``forget`` and the ``note`` methods are called by whoever changes
    the HDF5 file."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listed: LruCache[_Group, _Listed] = LruCache(
            _LISTING_BYTES_KEPT, lambda listed: listed.links.size_bytes
        )
        # By file and id of the group, and the link's name.
        self._links: LruCache[tuple[int, int, bytes], Known] = LruCache(_LINKS_KEPT)
        # A program that makes or removes many files asks for each name before: after some such
        # questions the whole group is listed, which answers the rest. Twice as many questions lead
        # to the next list, so that lists that are soon forgotten do not cost more than they save.
        self._changed_links: tuple[ObjectRef | None, int] = (None, 0)
        self._most_changed_links = _FIRST_CHANGED_LINKS

    def forget(self) -> None:
        """Forget everything."""
        self._listed.clear()
        self._links.clear()

    def list(self, group: ObjectRef) -> Links:
        """Return all links of a group; they are kept, since whoever lists them asks for each."""
        listed = self._listed.get((group.file, group.id))
        if listed is None or listed.changed:
            listed = _Listed(Links(self._store.list_links(group)))
            self._listed.put((group.file, group.id), listed)
        return listed.links

    def is_empty(self, group: ObjectRef) -> bool:
        """Whether a group has no links."""
        is_empty = self.is_known_empty(group)
        return not len(self.list(group)) if is_empty is None else is_empty

    def is_known_empty(self, group: ObjectRef) -> bool | None:
        """Whether a group has no links, without asking; None where that is not known."""
        listed = self._listed.get((group.file, group.id))
        if listed is None or None in listed.changed.values():
            return None
        count = len(listed.links)
        for name, known in listed.changed.items():
            was_there = listed.links.find(name) is not None
            count += isinstance(known, Link) - was_there
        return not count

    def known(self, group: ObjectRef, name: bytes) -> Known | None:
        """Return what is known of a name, without asking; None for nothing."""
        file, number = group.file, group.id
        listed = self._listed.get((file, number))
        if listed is not None:
            if name not in listed.changed:
                return listed.find(name)
            if (found := listed.changed[name]) is not None:
                return found
        return self._links.get((file, number, name))

    def ask(self, group: ObjectRef, name: bytes) -> Known:
        """Find out about a name of which nothing is known."""
        if self._changed_links[0] == group and self._changed_links[1] >= self._most_changed_links:
            self._changed_links, self._most_changed_links = (None, 0), 2 * self._most_changed_links
            with suppress(H5fsError):  # one link may be readable all the same
                self.list(group)
                if (known := self.known(group, name)) is not None:
                    return known
        try:
            known = self._store.get_link(group, name)
        except NotFoundError:
            known = _NOT_THERE
        self._links.put((group.file, group.id, name), known)
        return known

    def note(self, group: ObjectRef, name: bytes, link: Link | None) -> None:
        """Note that a link is another one now; None where that is not known."""
        self._note(group, name, link)

    def note_gone(self, group: ObjectRef, name: bytes) -> None:
        """Note that a link is gone."""
        self._note(group, name, _NOT_THERE)

    def note_empty_group(self, group: ObjectRef) -> None:
        """Note that a group has no links: it was made, or has moved without any."""
        self._listed.put((group.file, group.id), _Listed(_NO_LINKS))

    def forget_group(self, group: ObjectRef) -> None:
        """Forget the links of a group that is gone."""
        self._listed.remove((group.file, group.id))

    def _note(self, group: ObjectRef, name: bytes, known: Known | None) -> None:
        key = (group.file, group.id, name)
        if known is None:
            self._links.remove(key)
        else:
            self._links.put(key, known)
        listed = self._listed.get(key[:2])
        if listed is not None:
            listed.changed[name] = known
            if len(listed.changed) > _CHANGES_KEPT:
                self._listed.remove(key[:2])
        elif known is not None:
            count = self._changed_links[1] if self._changed_links[0] == group else 0
            self._changed_links = group, count + 1


def as_known(moved: ObjectInfo, known: ObjectInfo) -> ObjectInfo:
    """Return an object that has moved with what is known of its data: its header alone changes."""
    return structs.replace(
        moved, dataset=known.dataset, storage_size_bytes=known.storage_size_bytes,
        file_offset=known.file_offset, array=known.array,
    )  # fmt: skip

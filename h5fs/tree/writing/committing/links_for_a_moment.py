"""Links of the hidden group that are there for a moment: what is made by one, or written, gets its
name when it is complete. A kill before that leaves nothing that anybody sees.

There is one to write by, since who does that is alone, and one to take another link's place. They
are of no path, so that no mount takes them up. Functions over the store; they keep nothing. Under
the tree's lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from msgspec import structs

from h5fs.errors import ExistsError, NotFoundError
from h5fs.model.objects import Link, LinkKind, ObjectRef
from h5fs.store.hidden_names import kept_name
from h5fs.store.interface import WritingStore

LINK_FOR_A_MOMENT = kept_name(b"", is_dataset=True)
_TAKING_A_PLACE = kept_name(b"~", is_dataset=True)


def hidden_group_of(store: WritingStore) -> ObjectRef:
    """Return a store's hidden group, made where there is none."""
    hidden = store.hidden_group()
    assert hidden is not None
    return hidden


def make_room(store: WritingStore) -> None:
    """Let there be no link to write by: a daemon may have been killed while there was one, and what
    that leads to is another object, perhaps with other names."""
    with suppress(NotFoundError):
        store.delete_link(hidden_group_of(store), LINK_FOR_A_MOMENT)


def link_for_a_moment(store: WritingStore, link: Link) -> None:
    """Make the link to write by, to what another one leads to."""
    _make(store, structs.replace(link, name=LINK_FOR_A_MOMENT))


def give_name(store: WritingStore, group: ObjectRef, name: bytes, *, is_shared: bool) -> None:
    """Let the link to write by be one of a group. ``is_shared``: other mounts change the file, too,
    and what one of them has put there stays. Raises ``ExistsError`` then."""
    hidden = hidden_group_of(store)
    if is_shared:
        target = store.get_link(hidden, LINK_FOR_A_MOMENT).target
        store.create_link(group, Link(name, LinkKind.HARD, target=target))
        store.delete_link(hidden, LINK_FOR_A_MOMENT)
    else:
        store.move_link(hidden, LINK_FOR_A_MOMENT, group, name)


def put_link(store: WritingStore, group: ObjectRef, link: Link) -> None:
    """Let a group have a link, in one step in the place of one that has the name."""
    _make(store, structs.replace(link, name=_TAKING_A_PLACE))
    with dropped_on_error(store, _TAKING_A_PLACE):
        store.move_link(hidden_group_of(store), _TAKING_A_PLACE, group, link.name)


@contextmanager
def dropped_on_error(store: WritingStore, name: bytes = LINK_FOR_A_MOMENT) -> Iterator[None]:
    """Let a link go if the block fails."""
    try:
        yield
    except BaseException:
        with suppress(NotFoundError):  # it was not made, or has its name already
            store.delete_link(hidden_group_of(store), name)
        raise


def _make(store: WritingStore, link: Link) -> None:
    hidden = hidden_group_of(store)
    try:
        store.create_link(hidden, link)
    except ExistsError:  # a daemon was killed in that moment
        store.delete_link(hidden, link.name)
        store.create_link(hidden, link)

"""Objects that a mount has taken a name from: those without any name are deleted a little later.

The service deletes an object when it is told to, whoever still has a link to it. So two looks at
all links of the domain, some time apart, must find none; by then no mount knows the object by a
name that it has lost. An object that has taken another's place gets those attributes that
programs gave the old one while it did, and its place among dimension scales. A group that was
empty when its name went, and in which another mount has saved something since, gets a name again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from h5fs.errors import ExistsError, GoneError, H5fsError, show_path
from h5fs.store.hsds.answers import AllLinksAnswer
from h5fs.store.hsds.client import Client, TooLongError
from h5fs.store.hsds.link_map import MOST_BYTES
from h5fs.store.hsds.object_descriptions import join_path, path_of
from h5fs.store.hsds.writing.attribute_bodies import read_bodies, write_bodies
from h5fs.store.hsds.writing.link_bodies import digits_of
from h5fs.store.hsds.writing.link_changes import LinkChanges, Place
from h5fs.store.hsds.writing.scale_attributes import catch_up, is_about_scales

_log = logging.getLogger(__name__)

KEPT: Final = b".h5fs-kept-"
"""The end of a group's name, before some digits, where its own is another's by now."""

LATER_SECONDS: Final = 2.0
"""Longer than mounts keep names, which is a second."""


@dataclass(eq=False, slots=True)
class _Removed:
    """An object that has lost a name. ``looks``: how many looks found no name of it at all.

    ``successor``: the object that took its place, and got copies of ``attributes``. ``place``:
    where an empty group had its name.
    """

    object_id: str
    looks: int = 0
    successor: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    place: Place | None = None
    since: float = field(default_factory=time.monotonic)


class RemovedObjects:
    """Deletes what has no name. ``is_held``: whether an object is open, by its id.

    ``_lock`` protects ``_waiting``; nothing else is taken while it is held. ``_sweeping`` is held
    by the one thread that deletes.
    """

    def __init__(
        self,
        client: Client,
        query: Mapping[str, str],
        links: LinkChanges,
        root_of: Callable[[], str],
        is_held: Callable[[str], bool],
        later_seconds: float,
    ) -> None:
        self._client = client
        self._query = query
        self._links = links
        self._root_of = root_of
        self._is_held = is_held
        self._later_seconds = later_seconds
        self._lock = threading.Lock()
        self._sweeping = threading.Lock()
        self._waiting: dict[str, _Removed] = {}
        self._timer: threading.Timer | None = None

    def add(
        self, object_id: str, *, successor: str = "", attributes: Mapping[str, Any] | None = None,
        place: Place | None = None,
    ) -> None:  # fmt: skip
        """Look later at an object that has lost a name."""
        with self._lock:
            removed = _Removed(
                object_id, successor=successor, attributes=attributes or {}, place=place
            )
            self._waiting[object_id] = removed
        self._start_timer()

    def close(self) -> None:
        """Delete what can be deleted, now."""
        with self._lock:
            timer, self._timer = self._timer, None
            newest = max((each.since for each in self._waiting.values()), default=0.0)
        if timer is not None:
            timer.cancel()
        if not newest:
            return
        left = newest + self._later_seconds - time.monotonic()
        time.sleep(min(max(left, 0), self._later_seconds))
        self._sweep()
        time.sleep(self._later_seconds / 4)  # what was just being moved has its new name by then
        self._sweep()

    def _start_timer(self) -> None:
        with self._lock:
            if self._timer is None and self._waiting:
                self._timer = threading.Timer(self._later_seconds, self._sweep_later)
                self._timer.daemon = True
                self._timer.start()

    def _sweep_later(self) -> None:
        with self._lock:
            self._timer = None
        self._sweep()
        self._start_timer()

    def _sweep(self) -> None:
        with self._sweeping:
            now = time.monotonic()
            with self._lock:
                due = [
                    each
                    for each in self._waiting.values()
                    if now - each.since >= self._later_seconds
                ]
            due = [each for each in due if not self._is_held(each.object_id)]
            try:
                named = self._named() if due else frozenset()
            except TooLongError:
                _log.info("the domain has too many links: what was removed keeps its space")
                self._forget(due)
                return
            except H5fsError as error:
                _log.debug("what was removed is looked at later: %s", error)
                return
            for each in due:
                self._look_at(each, named)

    def _look_at(self, removed: _Removed, named: frozenset[str]) -> None:
        if removed.object_id in named:
            self._forget([removed])
            return
        try:
            removed.looks += 1
            if removed.place is not None and not self._links.is_empty(removed.object_id):
                self._put_back(removed.object_id, removed.place)
                self._forget([removed])
            elif removed.looks > 1:
                self._carry_attributes(removed)
                self._delete(removed.object_id, named)
                self._forget([removed])
        except GoneError:  # another mount has deleted it
            self._forget([removed])
        except H5fsError as error:
            _log.warning("what was removed keeps its space: %s", error)
            self._forget([removed])

    def _forget(self, removed: list[_Removed]) -> None:
        with self._lock:
            for each in removed:
                if self._waiting.get(each.object_id) is each:
                    del self._waiting[each.object_id]

    def _named(self) -> frozenset[str]:
        """Return the ids of all objects that some path leads to."""
        root = self._root_of()
        return frozenset(self._below(root)) | {root}

    def _below(self, group_id: str) -> set[str]:
        found = self._client.get(
            path_of(group_id) + "/links", AllLinksAnswer, {**self._query, "follow_links": "1"},
            most_bytes=MOST_BYTES,
        )  # fmt: skip
        return {link.id for links in found.links.values() for link in links if link.id}

    def _put_back(self, group_id: str, place: Place) -> None:
        """Give a group a name again, the old one if nothing else has that."""
        path, parent_id, name = place
        other_name = name + KEPT + digits_of(group_id)
        root_id = self._root_of()
        for where, parent, title in (
            (path, parent_id, name), (path, parent_id, other_name), (b"/", root_id, other_name),
        ):  # fmt: skip
            try:
                self._links.make(parent, title, {"id": group_id})
            except (ExistsError, GoneError):  # the group that it was in may be gone, too
                continue
            _log.warning(
                "%s was removed while another mount saved something in it: it is there again, as "
                "%s", show_path(join_path(path, name)), show_path(join_path(where, title)),
            )  # fmt: skip
            return

    def _carry_attributes(self, removed: _Removed) -> None:
        """Give the successor what others have set of the old object's attributes meanwhile.

        Scales, and what they are attached to, get to know it now at last.
        """
        if not removed.successor:
            return
        before = removed.attributes
        now = read_bodies(self._client, self._query, removed.object_id)
        late = {
            name: body
            for name, body in now.items()
            if before.get(name) != body and not is_about_scales(name, before.get(name), body)
        }
        if late:
            write_bodies(self._client, self._query, removed.successor, late)
        catch_up(self._client, self._query, removed.object_id, removed.successor, before, now)

    def _delete(self, object_id: str, named: frozenset[str]) -> None:
        ids = {object_id}
        if object_id.startswith("g-"):
            try:
                ids |= self._below(object_id)
            except GoneError:
                return
        for each in ids - named:
            try:
                self._client.change("DELETE", path_of(each), self._query)
            except GoneError:
                continue

"""Changes of links. The service makes a link where none has the name, and replaces none.

To replace a link takes three changes: the old object gets a second name, then the first name goes,
then the new link comes, and the second name goes. So a name that is not there is just being
replaced by another mount while there is a second name. Whoever is killed in between leaves that.

The second name follows from the name and what it leads to, and the service says whether it was
there. So of several mounts one at a time replaces or moves a link; and what it deletes is what it
has looked at, never what another mount has put there since. Who moves a link over another gives
both their second names, in an order that is the same for all, and waits for others with neither.

Who takes over what a killed mount has left gives it one more name, since others may want to, too.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from h5fs.errors import ExistsError, GoneError, H5fsError, NotEmptyError, show_path
from h5fs.lru_cache import LruCache
from h5fs.store.hsds.answers import LinkAnswer, LinksAnswer
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.object_descriptions import join_path, path_of
from h5fs.store.hsds.writing.link_bodies import body_of, digits_of, is_group, title_of

_log = logging.getLogger(__name__)

REPLACED: Final = b".h5fs-replaced-"
"""The end of the second name, before some digits, which stand for what the link leads to."""

_PATIENCE_SECONDS: Final = 20.0
_SEEN_SECONDS: Final = 10.0
_MOST_SEEN: Final = 4096
_REPLACED_WITHIN_SECONDS: Final = 5.0
"""What has its second name for longer is taken for what a mount left that was killed."""
_SAFE_PART: Final = 0.8
"""For this part of that time nobody else can have taken over what a slow mount has kept."""
_PAUSE_SECONDS: Final = 0.02
_QUIET_LOOKS: Final = 3
"""As many looks in a row find neither name before a name is called free."""
_CREATED: Final = 201

Place = tuple[bytes, str, bytes]
"""A group's path and its id, and a name there."""

_Left = set[tuple[str, bytes]]
"""Second names, by their groups' ids, that stay: mounts that were killed have left them."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A link with its second names, of which the last one is this mount's, if ``is_own``; the
    others were left by mounts that were killed."""

    place: Place
    link: LinkAnswer
    spares: tuple[bytes, ...]
    is_own: bool


class LinkChanges:
    """Finds, makes, replaces and deletes links of groups, which are named by their ids."""

    def __init__(self, client: Client, query: Mapping[str, str]) -> None:
        self._client = client
        self._query = query
        self._seen: LruCache[tuple[str, bytes], float] = LruCache(_MOST_SEEN)

    def note_seen(self, group_id: str, name: bytes) -> None:
        """Take note that there is a link of this name."""
        self._seen.put((group_id, name), time.monotonic())

    def find(self, group_id: str, name: bytes) -> LinkAnswer | None:
        """Return a link, also one that is just being replaced; None where there is none."""
        found = self._find(group_id, name)
        return found if found is not None else self.find_again(group_id, name)

    def find_again(self, group_id: str, name: bytes) -> LinkAnswer | None:
        """Wait for a link that was there a moment ago, and is just being replaced."""
        seen = self._seen.get((group_id, name))
        if seen is None or time.monotonic() - seen >= _SEEN_SECONDS:
            return None
        last = time.monotonic() + _REPLACED_WITHIN_SECONDS
        quiet_looks = 0
        while quiet_looks < _QUIET_LOOKS and time.monotonic() < last:
            # Asked for in this order: a link that came in between is found.
            is_replaced = self._is_being_replaced(group_id, name)
            found = self._find(group_id, name)
            if found is not None:
                return found
            # Of two mounts that take turns, one may have ended and the other begun in between.
            quiet_looks = 0 if is_replaced else quiet_looks + 1
            time.sleep(_PAUSE_SECONDS)
        self._seen.remove((group_id, name))
        return None

    def _is_being_replaced(self, group_id: str, name: bytes) -> bool:
        """Return whether there is a second name."""
        start = title_of(name) + REPLACED.decode()
        # The service has no way to quote; "?" is any character.
        pattern = re.sub(r"[][*?]", "?", start) + "*"
        try:
            found = self._client.ask(
                "GET", path_of(group_id) + "/links", LinksAnswer,
                {**self._query, "pattern": pattern},
            )  # fmt: skip
        except GoneError:
            return False
        return any(link.title.startswith(start) for link in found.links)

    def _find(self, group_id: str, name: bytes) -> LinkAnswer | None:
        title = title_of(name)
        try:
            # The name is in the body, since ".." and odd characters are changed in a URL.
            found = self._client.ask(
                "POST", path_of(group_id) + "/links", LinksAnswer, self._query,
                {"titles": [title]},
            )  # fmt: skip
        except GoneError:
            return None
        link = next((link for link in found.links if link.title == title), None)
        if link is not None:
            self.note_seen(group_id, name)
        return link

    def make(self, group_id: str, name: bytes, body: Mapping[str, str]) -> None:
        """Make a link. Raises ``ExistsError``, also for one to a path that is just the same."""
        if not self._make(group_id, name, body) and "id" not in body:
            raise ExistsError(f"there is such a link {show_path(name)}")

    def _make(self, group_id: str, name: bytes, body: Mapping[str, str]) -> bool:
        """Make a link; False where there is just the same. Raises ``ExistsError``."""
        status = self._client.change(
            "PUT", path_of(group_id) + "/links", self._query, {"links": {title_of(name): body}}
        )
        self.note_seen(group_id, name)
        return status == _CREATED

    def delete(self, group_id: str, name: bytes) -> None:
        """Delete a link; one that is gone by now is no error."""
        self._seen.remove((group_id, name))
        self._delete(group_id, name)

    def _delete(self, group_id: str, name: bytes) -> None:
        with suppress(GoneError):
            self._client.change(
                "DELETE", path_of(group_id) + "/links", {**self._query, "titles": title_of(name)}
            )

    def put(
        self, group_path: bytes, group_id: str, name: bytes, body: Mapping[str, str], *,
        only_over: str = "",
    ) -> LinkAnswer | None:  # fmt: skip
        """Make a link, in the place of one that has the name; return that one.

        Readers find the old link, none for a moment, or the new one. ``only_over``: do nothing
        unless the name leads to this object. Raises ``ExistsError`` where a group would take the
        place of something else, or something else that of a group; and after some seconds, in
        which others were quicker again and again.
        """
        place, left = (group_path, group_id, name), _Left()
        last = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < last:
            old = self.find(group_id, name)
            if only_over and (old is None or old.id != only_over):
                return None
            if old is None:
                with suppress(ExistsError):
                    self.make(group_id, name, body)
                    return None
                continue
            if body_of(old) == body:
                return None
            self._check_may_replace(place, old, body)
            with self._kept({place: old}, left) as until:
                if time.monotonic() < until and self._replace(group_id, name, old, body):
                    return old
        raise _too_many(place)

    def move(self, place: Place, new_place: Place) -> tuple[LinkAnswer | None, LinkAnswer | None]:
        """Move a link; return what was moved, None where nothing has the name, and replaced.

        Raises ``ExistsError`` as ``put``, ``NotEmptyError`` for a group that is not empty.
        """
        moved: LinkAnswer | None = None
        replaced: LinkAnswer | None = None
        left = _Left()
        last = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < last:
            found = self.find(*place[1:])
            if moved is not None and (found is None or body_of(found) != body_of(moved)):
                return moved, replaced  # somebody else has the old name by now
            if found is None or place[1:] == new_place[1:]:
                return found, None
            body, links = body_of(found), {place: found}
            there = self.find(*new_place[1:])
            if there is not None:
                # Also where it leads to the same: another mount may be moving that to `place`.
                links[new_place] = there
            is_over = there is not None and body_of(there) != body
            if there is not None and is_over:
                self._check_may_replace(new_place, there, body)
            with self._kept(links, left) as until:
                if time.monotonic() >= until:
                    continue
                if there is None and not self._make_where_free(*new_place[1:], body):
                    continue
                if there is not None and is_over:
                    if not self._replace(*new_place[1:], there, body):
                        continue
                    replaced = there
                moved = found
                if time.monotonic() < until:
                    self.delete(*place[1:])
                    return moved, replaced
        raise _too_many(place)

    def is_empty(self, group_id: str) -> bool:
        """Whether a group has no links."""
        query = {**self._query, "Limit": "1"}
        return not self._client.get(path_of(group_id) + "/links", LinksAnswer, query).links

    def _check_may_replace(self, place: Place, old: LinkAnswer, body: Mapping[str, str]) -> None:
        path = show_path(join_path(place[0], place[2]))
        if is_group(body_of(old)) != is_group(body):
            raise ExistsError(f"{path}: another mount has made something else there")
        if is_group(body) and not self.is_empty(old.id):
            raise NotEmptyError(f"{path} is not empty: another mount has made something in it")

    def _make_where_free(self, group_id: str, name: bytes, body: Mapping[str, str]) -> bool:
        try:
            self._make(group_id, name, body)
        except ExistsError:
            return False
        return True

    def _replace(
        self, group_id: str, name: bytes, old: LinkAnswer, body: Mapping[str, str]
    ) -> bool:
        """Replace a link that is kept; False when somebody else was quicker."""
        try:
            self._delete(group_id, name)
            self._make(group_id, name, body)
        except ExistsError:
            return False
        except H5fsError:
            with suppress(H5fsError):
                self._make(group_id, name, body_of(old))
            raise
        return True

    @contextmanager
    def _kept(self, links: Mapping[Place, LinkAnswer], left: _Left) -> Iterator[float]:
        """Keep what links lead to by second names, which other mounts respect.

        Yields until when the links are surely the same; the past when they are not, or when this
        one has to wait for others, which it does afterwards.
        """
        until = time.monotonic() + _REPLACED_WITHIN_SECONDS * _SAFE_PART
        kept: list[_Kept] = []
        try:
            for place, link in sorted(links.items(), key=lambda each: each[0][1:]):
                kept.append(self._keep(place, link, left))
                if not kept[-1].is_own:
                    break
            is_same = kept[-1].is_own and all(self._is_same(each) for each in kept)
            yield until if is_same else 0.0
        except H5fsError as error:
            for each in kept:
                self._drop_if_back(each, error)
            raise
        for each in kept:
            self._drop(each, each.spares if is_same else each.spares[-1:])
        if not kept[-1].is_own:
            (group_path, group_id, _), spare = kept[-1].place, kept[-1].spares[-1]
            if self._stays(group_id, spare):
                left.add((group_id, spare))
                path = show_path(join_path(group_path, spare))
                _log.warning("%s stays: a mount that was killed seems to have left it", path)

    def _keep(self, place: Place, link: LinkAnswer, left: _Left) -> _Kept:
        """Give what a link leads to a second name; the last one is another's if that is there."""
        _, group_id, name = place
        first = name + REPLACED + digits_of(json.dumps(body_of(link), sort_keys=True))
        spares = [first]
        while (group_id, spares[-1]) in left:
            spares.append(b"%s-%d" % (first, len(spares)))
        is_own = self._make(group_id, spares[-1], body_of(link))
        return _Kept(place, link, tuple(spares), is_own)

    def _is_same(self, kept: _Kept) -> bool:
        """Whether a link leads to what is kept; and what others have left, if so, is there."""
        _, group_id, name = kept.place
        found = self._find(group_id, name)
        return (
            found is not None
            and body_of(found) == body_of(kept.link)
            and (len(kept.spares) == 1 or self._find(group_id, kept.spares[0]) is not None)
        )

    def _drop(self, kept: _Kept, spares: tuple[bytes, ...]) -> None:
        if not kept.is_own:
            return
        for spare in spares:
            try:
                self.delete(kept.place[1], spare)
            except H5fsError as error:
                path = show_path(join_path(kept.place[0], kept.place[2]))
                _log.warning("%s: what was replaced is left as %s: %s", path, show_path(spare),
                             error)  # fmt: skip

    def _stays(self, group_id: str, spare: bytes) -> bool:
        """Wait for another mount that replaces a link; True if it seems to have been killed."""
        last = time.monotonic() + _REPLACED_WITHIN_SECONDS
        while self._find(group_id, spare) is not None:
            if time.monotonic() > last:
                return True
            time.sleep(_PAUSE_SECONDS)
        return False

    def _drop_if_back(self, kept: _Kept, error: H5fsError) -> None:
        if not kept.is_own:
            return
        group_path, group_id, name = kept.place
        try:
            found = self._find(group_id, name)
            if found is not None and body_of(found) == body_of(kept.link):
                self.delete(group_id, kept.spares[-1])
                return
        except H5fsError:
            pass  # the log says what is left
        _log.error(
            "%s was to be replaced when the service failed (%s): what was there has the name "
            "%s now; rename it back", show_path(join_path(group_path, name)), error,
            show_path(kept.spares[-1]),
        )  # fmt: skip


def _too_many(place: Place) -> ExistsError:
    path = show_path(join_path(place[0], place[2]))
    return ExistsError(f"{path}: others put something there again and again")

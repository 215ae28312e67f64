"""Changes of links. The service makes a link where none has the name, and replaces none.

To replace a link takes three changes: the old object gets a second name, then the first name goes,
then the new link comes, and the second name goes. So a name that is not there is just being
replaced by another mount while there is a second name. Whoever is killed in between leaves that.

The second name follows from the name and what it leads to, and the service says whether it was
there. So of several mounts one at a time replaces or moves a link; and what it deletes is what it
has looked at, never what another mount has put there since.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from h5fs.errors import (
    ExistsError,
    GoneError,
    H5fsError,
    InvalidNameError,
    NotFoundError,
    show_path,
)
from h5fs.lru_cache import LruCache
from h5fs.model.objects import Link, LinkKind, ObjectRef
from h5fs.store.hsds.answers import LinkAnswer, LinksAnswer
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.object_descriptions import join_path, path_of

_log = logging.getLogger(__name__)

REPLACED: Final = b".h5fs-replaced-"
"""The end of the second name, before some digits, which stand for what the link leads to."""

_PATIENCE_SECONDS: Final = 20.0
_DIGITS_BYTES: Final = 4
_SEEN_SECONDS: Final = 10.0
_MOST_SEEN: Final = 4096
_REPLACED_WITHIN_SECONDS: Final = 5.0
"""What has its second name for longer is taken for what a mount left that was killed."""
_PAUSE_SECONDS: Final = 0.02
_QUIET_LOOKS: Final = 3
"""As many looks in a row find neither name before a name is called free."""
_CREATED: Final = 201

Place = tuple[bytes, str, bytes]
"""A group's path and its id, and a name there."""


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
        path = show_path(join_path(group_path, name))
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
            if _is_group(body_of(old)) != _is_group(body):
                raise ExistsError(f"{path}: another mount has made something else there")
            with self._kept(group_id, name, old, path) as is_same:
                if is_same and self._replace(group_id, name, old, body):
                    return old
        raise ExistsError(f"{path}: others put something there again and again")

    def move(self, place: Place, new_place: Place) -> tuple[LinkAnswer | None, LinkAnswer | None]:
        """Move a link; return what was moved, None where nothing has the name, and replaced.

        Raises ``ExistsError`` as ``put``.
        """
        group_path, group_id, name = place
        path = show_path(join_path(group_path, name))
        last = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < last:
            found = self.find(group_id, name)
            if found is None or place[1:] == new_place[1:]:
                return found, None
            with self._kept(group_id, name, found, path) as is_same:
                if is_same:
                    replaced = self.put(*new_place, body_of(found))
                    self.delete(group_id, name)
                    return found, replaced
        raise ExistsError(f"{path}: others put something there again and again")

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
    def _kept(self, group_id: str, name: bytes, old: LinkAnswer, path: str) -> Iterator[bool]:
        """Keep what a link leads to by a second name, which other mounts respect.

        Yields whether the link is still the same; not when this one had to wait for others.
        """
        spare = name + REPLACED + _digits_of(old)
        is_own = self._make(group_id, spare, body_of(old))
        if not is_own and not self._stays(group_id, spare):
            yield False
            return
        found = self._find(group_id, name)
        if found is None and not is_own:  # the mount that was killed had come so far
            yield False
            return
        try:
            yield found is not None and body_of(found) == body_of(old)
        except H5fsError as error:
            self._drop_if_back(group_id, name, old, spare, path, error)
            raise
        try:
            self.delete(group_id, spare)
        except H5fsError as error:
            _log.warning("%s: what was replaced is left as %s: %s", path, show_path(spare), error)

    def _stays(self, group_id: str, spare: bytes) -> bool:
        """Wait for another mount that replaces a link; True if it seems to have been killed."""
        last = time.monotonic() + _REPLACED_WITHIN_SECONDS
        while self._find(group_id, spare) is not None:
            if time.monotonic() > last:
                return True
            time.sleep(_PAUSE_SECONDS)
        return False

    def _drop_if_back(
        self, group_id: str, name: bytes, old: LinkAnswer, spare: bytes, path: str,
        error: H5fsError,
    ) -> None:  # fmt: skip
        try:
            found = self._find(group_id, name)
            if found is not None and body_of(found) == body_of(old):
                self.delete(group_id, spare)
                return
        except H5fsError:
            pass  # the log says what is left
        _log.error(
            "%s was to be replaced when the service failed (%s): what was there has the name "
            "%s now; rename it back", path, error, show_path(spare),
        )  # fmt: skip


def _is_group(body: Mapping[str, str]) -> bool:
    return body.get("id", "").startswith("g-")


def _digits_of(link: LinkAnswer) -> bytes:
    text = json.dumps(body_of(link), sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=_DIGITS_BYTES).hexdigest().encode()


def title_of(name: bytes) -> str:
    """Return a link's name as the service has it. Raises ``InvalidNameError``."""
    try:
        title = name.decode()
    except UnicodeDecodeError:
        raise InvalidNameError(f"{show_path(name)}: the service has UTF-8 names only") from None
    if not title or "/" in title:
        raise InvalidNameError(f"{show_path(name)} is no name of a link")
    return title


def body_of(link: LinkAnswer) -> dict[str, str]:
    """Return what the service takes to make just such a link."""
    if link.id:
        return {"id": link.id}
    if link.kind == "H5L_TYPE_EXTERNAL":
        return {"h5path": link.h5path, "h5domain": link.file or link.h5domain}
    return {"h5path": link.h5path}


def body_of_link(link: Link, target_id: str) -> dict[str, Any]:
    """Return what the service takes for a link; ``target_id`` is that of a hard link's object."""
    if link.kind is LinkKind.HARD:
        return {"id": target_id}
    if link.kind is LinkKind.SOFT:
        return {"h5path": _path(link.soft_target)}
    if link.kind is LinkKind.EXTERNAL:
        return {"h5path": _path(link.external_path), "h5domain": _path(link.external_file)}
    raise InvalidNameError(f"a {link.kind.value} link, which the service does not have")


def check_there(found: LinkAnswer | None, group: ObjectRef, name: bytes) -> LinkAnswer:
    """Return a link that must be there. Raises ``NotFoundError``."""
    if found is None:
        raise NotFoundError(f"no link {show_path(join_path(group.path, name))}")
    return found


def _path(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise InvalidNameError(f"{show_path(text)}: the service has UTF-8 paths only") from None

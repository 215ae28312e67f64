"""Changes of links. The service makes a link where none has the name, and replaces none.

To replace a link takes three changes: the old object gets a second name, then the first name goes,
then the new link comes, and the second name goes. So a name that is not there is just being
replaced by another mount while there is a second name. Whoever is killed in between leaves that.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
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
"""The end of the second name, before some digits."""

_MOST_TRIES: Final = 8
_SEEN_SECONDS: Final = 10.0
_MOST_SEEN: Final = 4096
_REPLACED_WITHIN_SECONDS: Final = 5.0
"""What has its second name for longer is taken for what a mount left that was killed."""
_PAUSE_SECONDS: Final = 0.02
_QUIET_LOOKS: Final = 3
"""As many looks in a row find neither name before a name is called free."""
_CREATED: Final = 201


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
        """Make a link. Raises ``ExistsError``, also for one that is just the same."""
        status = self._client.change(
            "PUT", path_of(group_id) + "/links", self._query, {"links": {title_of(name): body}}
        )
        if status != _CREATED and "id" not in body:
            raise ExistsError(f"there is such a link {show_path(name)}")

    def delete(self, group_id: str, name: bytes) -> None:
        """Delete a link; one that is gone by now is no error."""
        self._seen.remove((group_id, name))
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
        unless the name leads to this object. Raises ``ExistsError`` after some tries, in each of
        which another mount was quicker.
        """
        path = show_path(join_path(group_path, name))
        for _ in range(_MOST_TRIES):
            old = self.find(group_id, name)
            if only_over and (old is None or old.id != only_over):
                return None
            if old is None:
                try:
                    self.make(group_id, name, body)
                except ExistsError:
                    continue
                return None
            if body_of(old) == body:
                return None
            if self._replace(group_id, name, old, body, path):
                return old
        raise ExistsError(f"{path}: others put something there again and again")

    def _replace(
        self, group_id: str, name: bytes, old: LinkAnswer, body: Mapping[str, str], path: str
    ) -> bool:
        """Replace a link; False when somebody else was quicker."""
        spare = name + REPLACED + secrets.token_hex(4).encode()
        self.make(group_id, spare, body_of(old))
        try:
            self.delete(group_id, name)
            try:
                self.make(group_id, name, body)
            except ExistsError:
                self.delete(group_id, spare)
                return False
        except H5fsError as error:
            self._put_back(group_id, name, old, spare, path, error)
            raise
        self._drop(group_id, spare, path)
        return True

    def _put_back(
        self, group_id: str, name: bytes, old: LinkAnswer, spare: bytes, path: str,
        error: H5fsError,
    ) -> None:  # fmt: skip
        try:
            self.make(group_id, name, body_of(old))
            self.delete(group_id, spare)
        except H5fsError:
            _log.error(
                "%s was to be replaced when the service failed (%s): what was there has the name "
                "%s now; rename it back", path, error, show_path(spare),
            )  # fmt: skip

    def _drop(self, group_id: str, spare: bytes, path: str) -> None:
        try:
            self.delete(group_id, spare)
        except H5fsError as error:
            _log.warning("%s: what was replaced is left as %s: %s", path, show_path(spare), error)


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

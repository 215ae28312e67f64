"""All links of a domain at one moment: a map, which one request fetches.

It serves listings for a moment, hard link counts and the paths of references for longer. A domain
of very many links has no map: its groups are asked one by one.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import Final

from h5fs.errors import H5fsError
from h5fs.store.hsds.answers import AllLinksAnswer, LinkAnswer
from h5fs.store.hsds.client import TooLongError
from h5fs.store.hsds.object_descriptions import join_path, name_of

FRESH_SECONDS: Final = 1.0
"""How old the links of a listing may be."""

MOST_BYTES: Final = 16 << 20
"""About the size of the answer for 100,000 links."""

# Whoever walks through a domain asks for one group after another. Links are fetched all at once as
# long as that takes little time.
_MOST_SECONDS: Final = 0.5
_MANY_LINKS: Final = 10_000


class LinkMap:
    """The links of all groups, by the groups' ids; ``root`` is the id of the root group."""

    def __init__(self, answer: AllLinksAnswer, root: str) -> None:
        self.taken_at = time.monotonic()
        self.groups = answer.links
        self._root = root
        self.hard_link_counts = Counter(
            link.id for links in answer.links.values() for link in links if link.id
        )

    @property
    def link_count(self) -> int:
        """How many links there are."""
        return sum(map(len, self.groups.values()))

    @property
    def is_fresh(self) -> bool:
        """Whether listings may still be made of it."""
        return time.monotonic() - self.taken_at < FRESH_SECONDS

    @cached_property
    def paths(self) -> dict[str, bytes]:
        """One path of each object: the first that a walk in the order of names finds."""
        paths: dict[str, bytes] = {self._root: b"/"}
        stack = [(self._root, b"/")]
        while stack:
            group, path = stack.pop()
            below = []
            for link in sorted(self.groups.get(group, ()), key=name_of):
                if link.id and link.id not in paths:
                    paths[link.id] = join_path(path, name_of(link))
                    below.append((link.id, paths[link.id]))
            stack.extend(reversed(below))
        return paths


class LinkMaps:
    """The latest map of one domain. Threads may ask at the same time; both then fetch one.

    ``fetch`` asks the service, with a limit on the answer's size. Raises ``TooLongError``.
    """

    def __init__(self, root: str, fetch: Callable[[int], AllLinksAnswer]) -> None:
        self.root = root
        self._fetch = fetch
        self._latest: LinkMap | None = None
        self._seconds = 0.0
        self._is_too_large = False

    def for_listing(self) -> dict[str, list[LinkAnswer]]:
        """Return all links if there is a fresh map, or one is cheap to have; else none."""
        latest = self._latest
        if latest is not None and latest.is_fresh:
            return latest.groups
        if self._is_too_large or self._seconds > _MOST_SECONDS:
            return {}
        found = self._take()
        return found.groups if found is not None else {}

    def count_of(self, object_id: str) -> int:
        """Return how many hard links an object had a while ago; 1 where that is not known."""
        latest = self._latest or (None if self._is_too_large else self._take())
        return max(latest.hard_link_counts[object_id], 1) if latest is not None else 1

    def path_of(self, object_id: str) -> bytes | None:
        """Return a path of an object, None when none leads there."""
        latest = self._latest
        if latest is None or object_id not in latest.paths:
            latest = self._take()
        return latest.paths.get(object_id) if latest is not None else None

    def places_of(self, object_id: str) -> list[tuple[str, bytes, bytes]]:
        """Return groups' ids and paths, and the names in them, that lead to an object now.

        Where there are so many links that they are not fetched each time: if those of a while ago
        have no other path, there is none.
        """
        latest = self._latest
        if latest is None or latest.link_count < _MANY_LINKS or self.count_of(object_id) > 1:
            latest = self._take()
        if latest is None:
            return []
        return [
            (group, latest.paths.get(group, b"/"), name_of(link))
            for group, links in latest.groups.items()
            for link in links
            if link.id == object_id
        ]

    def outdate(self) -> None:
        """Make no more listings of the latest map: a link has changed."""
        latest = self._latest
        if latest is not None:
            latest.taken_at = -math.inf

    def forget(self) -> None:
        """Forget the latest map: an object has another name."""
        self._latest = None

    def _take(self) -> LinkMap | None:
        began = time.monotonic()
        try:
            latest = LinkMap(self._fetch(MOST_BYTES), self.root)
        except TooLongError:
            self._is_too_large = True
            return None
        except H5fsError:
            return None
        self._seconds = time.monotonic() - began
        self._latest = latest
        return latest

"""Which of the service's data nodes do not answer, found out once something is not answered.

The service says that it is ready when a node is dead, and asks that node until the caller gives up.
Each object is at home on one node, which follows from its id; so a look asks, of each node, for an
object that is not there: a living node says so at once. What is at home on a dead node is then
refused without a wait, until a later look finds the node back.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from h5fs.errors import UnreadableError

_log = logging.getLogger(__name__)

_OBJECT: Final = re.compile(
    r"/([gdt]-[0-9a-f]{8}-[0-9a-f]{8})(-[0-9a-f]{4}-[0-9a-f]{6}-[0-9a-f]{6})"
)
_PROBE_SECONDS: Final = 3.0
_BETWEEN_SECONDS: Final = 5.0
_MOST_NODES: Final = 1024

Ask = Callable[[str, float], bytes | None]
"""Returns the body of an answer to a path, None for no answer in so many seconds, or a failure."""


@dataclass(frozen=True, slots=True)
class _Place:
    """An object that was asked for: the first part of its id, the rest, and how it was asked.

    ``is_value``: for its elements, which may be on any node.
    """

    prefix: str
    rest: str
    query: str
    is_value: bool

    @property
    def object_id(self) -> str:
        return self.prefix + self.rest


class DataNodes:
    """The nodes of one service. Safe to use from any thread.

    ``name`` is the service's. ``_lock`` protects the fields below it; nothing else is taken while
    it is held.
    """

    def __init__(self, name: str, ask: Ask) -> None:
        self._name = name
        self._ask = ask
        self._lock = threading.Lock()
        self._place: _Place | None = None
        self._names: tuple[str, ...] = ()
        self._dead: frozenset[int] = frozenset()
        self._stuck: set[str] = set()  # arrays that have chunks on dead nodes
        self._looked_at = -_BETWEEN_SECONDS
        self._is_looking = False

    @property
    def are_dead(self) -> bool:
        """Whether a node is known not to answer."""
        return bool(self._dead)

    def check(self, url: str) -> None:
        """Raise ``UnreadableError`` for a request about an object that is on a dead node."""
        place = _place_of(url)
        if place is None:
            return
        self._place = place
        if not self._dead:
            return
        self.look(url)
        with self._lock:
            number = home_of(place.object_id, len(self._names))
            is_stuck = place.is_value and place.object_id in self._stuck
            if number in self._dead or is_stuck:
                who = self._describe(number) if number in self._dead else self._describe_dead()
                error = UnreadableError(f"{self._name}: {who} does not answer")
                error.is_news = False
                raise error

    def note_lost(self, url: str) -> bool:
        """Take note that a request was not answered in time; return whether a dead node is why.

        Requests about objects with a part on that node are then refused at once, until it is back.
        """
        self.look(url)
        place = _place_of(url)
        with self._lock:
            if self._dead and place is not None and place.is_value:
                self._stuck.add(place.object_id)
            return bool(self._dead)

    def look(self, url: str) -> None:
        """Find out in another thread which nodes answer; once in some seconds at most."""
        place = _place_of(url) or self._place
        with self._lock:
            is_early = time.monotonic() - self._looked_at < _BETWEEN_SECONDS
            if place is None or self._is_looking or is_early:
                return
            self._is_looking = True
        threading.Thread(target=self._look, args=(place,), daemon=True).start()

    def _look(self, place: _Place) -> None:
        try:
            names = self._ask_for_names()
            dead = self._find_dead(place, len(names))
            self._tell(names, dead)
        finally:
            with self._lock:
                self._is_looking = False
                self._looked_at = time.monotonic()

    def _ask_for_names(self) -> tuple[str, ...]:
        try:
            told = json.loads(self._ask("/about", _PROBE_SECONDS) or b"{}")
            count = min(int(told.get("node_count", 0)), _MOST_NODES)
            names = [str(each)[:100] for each in told.get("dn_ids", ())]
        except (ValueError, TypeError, AttributeError):
            return ()
        known = names if len(names) == count else [f"number {at + 1}" for at in range(count)]
        return tuple(known)

    def _find_dead(self, place: _Place, count: int) -> frozenset[int]:
        """Return the numbers of the nodes that say nothing about an object that is not there."""
        found: dict[int, bool] = {}

        def probe(number: int, path: str) -> None:
            found[number] = self._ask(path, _PROBE_SECONDS) is not None

        threads = [
            threading.Thread(target=probe, args=(number, _path_on(number, count, place)))
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return frozenset(number for number in range(count) if not found.get(number))

    def _tell(self, names: tuple[str, ...], dead: frozenset[int]) -> None:
        with self._lock:
            before, self._dead, self._names = self._dead, dead, names
            if before - dead:
                self._stuck.clear()
            texts = [self._describe(number) for number in sorted(dead - before)]
            back = [self._describe(number) for number in sorted(before - dead)]
        if texts and len(dead) == len(names):
            _log.error("%s: no data node answers (%d of them); start them again", self._name,
                       len(names))  # fmt: skip
        elif texts:
            _log.error(
                "%s: %s does not answer: what is at home there is an error at once (EIO) until it "
                "is started again, and what was written to it and no fsync has covered may be lost",
                self._name, ", ".join(texts),
            )  # fmt: skip
        if back:
            _log.warning("%s: %s is back", self._name, ", ".join(back))

    def _describe_dead(self) -> str:
        return ", ".join(self._describe(number) for number in sorted(self._dead))

    def _describe(self, number: int) -> str:
        return f"data node {self._names[number]} (of {len(self._names)})"


def home_of(object_id: str, count: int) -> int:
    """Return the number of the node that an object is at home on, as the service counts it."""
    digest = hashlib.md5(object_id.encode(), usedforsecurity=False).hexdigest()
    return int(digest[:5], 16) % max(count, 1)


def _place_of(url: str) -> _Place | None:
    parts = urlsplit(url)
    found = _OBJECT.search(parts.path)
    if found is None:
        return None
    kept = [each for each in parts.query.split("&") if each.startswith(("domain=", "bucket="))]
    return _Place(found[1], found[2], "&".join(kept), parts.path.endswith("/value"))


def _path_on(number: int, count: int, place: _Place) -> str:
    """Return the path of an object that does not exist, and would be at home on a node."""
    while True:
        token = secrets.token_hex(8)
        made = f"d{place.prefix[1:]}-{token[:4]}-{token[4:10]}-{token[10:16]}"
        if home_of(made, count) == number:
            return f"/datasets/{made}?{place.query}"

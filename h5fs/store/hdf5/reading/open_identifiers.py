"""Objects of HDF5 files that are kept open: opening one costs more than reading a little of it.

Not thread-safe: the store's lock is held around every call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from h5fs.model.objects import ObjectRef
from h5fs.store.hdf5.reading.outside_data import Outside

_MAX_IDENTIFIERS_OPEN = 64
_MAX_CACHED_BYTES = 256 * 2**20


class OpenIdentifier(Struct):
    """An open identifier. ``creation``: of a dataset, its creation properties.

    ``cache_bytes``: what HDF5 may keep of its chunks. ``is_permitted``: policy lets its elements be
    read, as far as it has been asked. ``outside``: what that has found of its elements.
    Once somebody has asked, ``inherited``: of a group, what is made in it takes over
    (`writing.creating.Inherited`); ``in_place``: of a dataset, how elements are written to it
    (`writing.in_place.InPlace`).
    """

    identifier: Any
    creation: Any = None
    cache_bytes: int = 0
    is_permitted: bool = False
    outside: Outside = field(default_factory=Outside)
    inherited: Any = None
    in_place: Any = None


class OpenIdentifiers:
    """The identifiers that were used last. ``open_identifier`` opens one that is not kept."""

    def __init__(self, open_identifier: Callable[[ObjectRef], OpenIdentifier]) -> None:
        self._open_identifier = open_identifier
        # By file and id: an ObjectRef is hashed and compared by Python, several times in each call.
        self._opened: OrderedDict[tuple[int, int], OpenIdentifier] = OrderedDict()
        self._cached_bytes = 0

    def open(self, ref: ObjectRef) -> OpenIdentifier:
        """Return an object's identifier, open. Raises what opening it raises."""
        key = (ref.file, ref.id)
        opened = self._opened.get(key)
        if opened is None:
            opened = self._opened[key] = self._open_identifier(ref)
            self._cached_bytes += opened.cache_bytes
            self._close_the_oldest()
        self._opened.move_to_end(key)
        return opened

    def keep(self, ref: ObjectRef, opened: OpenIdentifier) -> None:
        """Keep an identifier that was opened here, also one that was forgotten meanwhile.

        A look at a virtual dataset's sources may open more identifiers than are kept.
        """
        key = (ref.file, ref.id)
        if self._opened.get(key) is not opened:
            self._opened[key] = opened
            self._cached_bytes += opened.cache_bytes
            self._close_the_oldest()

    def find(self, ref: ObjectRef) -> OpenIdentifier | None:
        """Return an object's identifier if it is open."""
        return self._opened.get((ref.file, ref.id))

    def forget_file(self, number: int) -> None:
        """Close what is open of a file."""
        for key in [key for key in self._opened if key[0] == number]:
            self._cached_bytes -= self._opened.pop(key).cache_bytes

    def clear(self, *kept: ObjectRef) -> None:
        """Close all but some that have no cache."""
        keys = [(ref.file, ref.id) for ref in kept]
        still = [(key, self._opened[key]) for key in keys if key in self._opened]
        self._opened.clear()
        self._opened.update(still)
        self._cached_bytes = 0

    def _close_the_oldest(self) -> None:
        """Bound the number of identifiers, and what HDF5 caches for them; the newest one stays."""
        while len(self._opened) > 1 and (
            len(self._opened) > _MAX_IDENTIFIERS_OPEN or self._cached_bytes > _MAX_CACHED_BYTES
        ):
            self._cached_bytes -= self._opened.popitem(last=False)[1].cache_bytes

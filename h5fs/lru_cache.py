"""A bounded cache that forgets what was used longest ago."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class LruCache(Generic[Key, Value]):
    """Values of at most ``capacity`` in all, but for the newest one, which always stays.

    ``weigh`` says how much of the capacity a value takes; without it each takes 1. Safe to use from
    any thread. ``_lock`` protects everything, for moments only; nothing else is taken while it is
    held.
    """

    def __init__(self, capacity: int, weigh: Callable[[Value], int] | None = None) -> None:
        self._capacity = capacity
        self._weigh = weigh
        self._weight = 0
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """Return the value, or None when it was never put in or has been forgotten."""
        if not self._values:  # nor is the key's hash made, which may take longer than the rest
            return None
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def clear(self) -> None:
        """Forget everything."""
        if not self._values:
            return
        with self._lock:
            self._values.clear()
            self._weight = 0

    def remove(self, *keys: Key) -> None:
        """Forget some values, if they are there."""
        if not self._values:
            return
        with self._lock:
            for key in keys:
                old = self._values.pop(key, None)
                self._weight -= self._weight_of(old) if old is not None else 0

    def put(self, key: Key, value: Value) -> None:
        """Keep a value, and forget the one used longest ago when there are too many."""
        weight = 1 if self._weigh is None else self._weigh(value)
        with self._lock:
            old = self._values.pop(key, None)
            self._weight += weight
            if old is not None:
                self._weight -= self._weight_of(old)
            self._values[key] = value
            while self._weight > self._capacity and len(self._values) > 1:
                self._weight -= self._weight_of(self._values.popitem(last=False)[1])

    def _weight_of(self, value: Value) -> int:
        return 1 if self._weigh is None else self._weigh(value)

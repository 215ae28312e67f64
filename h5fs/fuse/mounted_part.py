"""Mounts of a part of a file: the kernel's paths count from that part, the tree's from the file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

# Which arguments of an operation are paths; of any other the first one is.
_PATHS = {"rename": (0, 1), "link": (0, 1), "symlink": (1,)}


def below(part: bytes, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of ``Operations`` that takes the kernel's paths, of a mount of ``part``.

    ``part`` is a path without a slash at its end; empty: the whole file is mounted.
    """
    if not part:
        return method
    positions = _PATHS.get(method.__name__, (0,))

    @functools.wraps(method)
    def call(*given: Any) -> Any:
        arguments = list(given)
        for position in positions:
            path = arguments[position]
            if isinstance(path, bytes):  # None for a file without a name
                arguments[position] = part if path == b"/" else part + path
        return method(*arguments)

    return call

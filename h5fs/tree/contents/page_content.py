"""What the kernel's pages of an open file are: bytes that it may keep as long as this is the same.

A plain value.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PageContent:
    """``identity``: two files that are open have equal bytes, at each moment, if it is equal.

    ``version`` differs after each change of these bytes; None when nobody tells of all changes.
    ``is_followed``: whether it is sure by now that the version is that of all bytes.
    """

    identity: Hashable
    version: int | None
    is_followed: bool = field(default=False, compare=False)

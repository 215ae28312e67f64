"""What the kernel's pages of an open file show: they are right as long as this value is the same.

A plain value.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PageContent:
    """``identity``: two files that are open have equal bytes, at each moment, if it is equal.

    ``version`` differs after each change of these bytes; None when nobody tells of all changes.
    ``is_followed``: whether it is certain that no byte changes without ``version``.
    ``lasts``: a handle that may write keeps to ``identity`` until it is closed, though another
    mount may put something else in the place of what it has open.
    """

    identity: Hashable
    version: int | None
    is_followed: bool = field(default=False, compare=False)
    lasts: bool = field(default=False, compare=False)

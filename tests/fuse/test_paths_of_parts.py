"""Paths of the kernel in a mount of a part of a file."""

from __future__ import annotations

from typing import Any

import pytest

from h5fs.fuse.mounted_part import below


class Called:
    """Notes what its operations are called with."""

    def getattr(self, *given: Any) -> tuple[Any, ...]:
        return given

    def rename(self, *given: Any) -> tuple[Any, ...]:
        return given

    link = rename

    def symlink(self, *given: Any) -> tuple[Any, ...]:
        return given

    def getxattr(self, *given: Any) -> tuple[Any, ...]:
        return given

    def init(self, *given: Any) -> tuple[Any, ...]:
        return given


@pytest.mark.semantics("P1")
def test_paths_count_from_the_part_and_nothing_else_changes() -> None:
    calls = Called()
    asked = below(b"/a/b", calls.getattr)
    assert asked(b"/", 1, None) == (b"/a/b", 1, None)
    assert asked(b"/x", 1) == (b"/a/b/x", 1)
    assert asked(None, 1) == (None, 1)
    assert asked.__name__ == "getattr"
    assert below(b"/a", calls.rename)(b"/x", b"/y", 0) == (b"/a/x", b"/a/y", 0)
    assert below(b"/a", calls.symlink)(b"/text", b"/y") == (b"/text", b"/a/y")
    assert below(b"/a", calls.getxattr)(b"/x", b"/name") == (b"/a/x", b"/name")
    assert below(b"/a", calls.init)(3, 4) == (3, 4)
    assert below(b"", calls.rename) == calls.rename

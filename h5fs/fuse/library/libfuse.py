"""What libfuse 2 and 3 do differently: one protocol, and the class for each of them.

Only ``libfuse_2`` and its row below know libfuse 2, so that one commit could remove it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from ctypes import c_void_p
from typing import Any, ClassVar, Protocol

from h5fs.fuse.library.arguments import (
    Arguments,
    collect_options,
    lasting_seconds,
    lists_statuses,
)
from h5fs.fuse.library.libfuse_2 import Libfuse2
from h5fs.fuse.library.libfuse_3 import Libfuse3
from h5fs.fuse.library.request_loop import RequestLoop
from h5fs.model.settings import MountOptions


class Libfuse(Protocol):
    """One mount by a libfuse; ``module`` and ``library`` are those of its binding.

    ``PACKAGE``: the binding's name on PyPI; ``MODULE``: the name that it is imported by;
    ``SONAMES``: the library's, newest first; ``LINKER_NAME``: its name for a linker;
    ``PROTOTYPES``: arguments of functions that only this version calls in this way; ``METHODS``:
    functions that a method of another name answers; ``KEEPS_LISTINGS``: whether the kernel may
    keep listings; ``WHY_NOT_WRITE``: why a mode that writes is refused, or None. ``pointer``: the
    ``struct fuse``, once it is mounted.
    """

    PACKAGE: ClassVar[str]
    MODULE: ClassVar[str]
    SONAMES: ClassVar[tuple[str, ...]]
    LINKER_NAME: ClassVar[str]
    WHAT_TO_INSTALL: ClassVar[str]
    PROTOTYPES: ClassVar[Mapping[str, tuple[Any, ...]]]
    METHODS: ClassVar[Mapping[str, str]]
    KEEPS_LISTINGS: ClassVar[bool]
    WHY_NOT_WRITE: ClassVar[str | None]

    pointer: c_void_p

    def __init__(self, module: Any, library: Any) -> None: ...

    @staticmethod
    def version(library: Any) -> str:
        """Return the full version."""
        ...

    @staticmethod
    def spell(options: Mapping[str, str | bytes | None], *, lists_statuses: bool) -> Arguments:
        """Return a mount's options as this libfuse takes them."""
        ...

    @staticmethod
    def fill(
        collector: int,
        filler: int,
        entries: Iterable[tuple[bytes, int | None, int, bool]],
        *,
        gives_statuses: bool,
    ) -> int:
        """Give dentries to libfuse's ``filler`` until it has no room; return how many had a status
        that the kernel gets, so that libfuse makes a node of each."""
        ...

    def mount(self, table: Any, words: list[bytes], mountpoint: bytes) -> bool:
        """Mount, with the functions of a ``fuse_operations``; return whether that succeeded."""
        ...

    def negotiate(self, arguments: Arguments, connection: int, config: int | None) -> None:
        """Settle what the kernel may do; the arguments are those that ``init`` was called with."""
        ...

    def begin(self, arguments: Arguments) -> None:
        """Before all others, answer the kernel's first request where libfuse would do so badly."""
        ...

    def descriptor(self) -> int:
        """Return the descriptor of /dev/fuse."""
        ...

    def request_loop(self) -> RequestLoop:
        """Return a loop for one thread, which answers one request at a time."""
        ...

    def unmount(self) -> None:
        """Unmount, and forget the mount."""
        ...


LIBFUSES: Mapping[int, type[Libfuse]] = {3: Libfuse3, 2: Libfuse2}
"""The classes by major version, in the order in which they are tried."""


def fuse_arguments(options: MountOptions, major: int = 3) -> Arguments:
    """Return the options of the mode, then what the user gave, for libfuse 2 or 3."""
    spelled = LIBFUSES[major].spell(
        collect_options(options), lists_statuses=lists_statuses(options)
    )
    return dataclasses.replace(spelled, lasting_seconds=lasting_seconds(options))

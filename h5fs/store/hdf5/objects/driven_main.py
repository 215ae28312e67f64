"""The mounted file where the library reads it through a driver of h5fs, for ``OpenFiles``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from h5fs.model.settings import Mode
from h5fs.store.sources.interface import Source


class DrivenMain(Protocol):
    """The mounted file where the library reads it through a driver of h5fs."""

    descriptor: int

    @property
    def fetched(self) -> Source | None:
        """The bytes of a file that comes bit by bit; None for one that is read through its log."""

    @property
    def failure(self) -> OSError | None:
        """The first error of reading or writing the file that the library was not told of."""

    def open_library(self, path: Path, mode: Mode) -> Any:
        """Return the ``h5py.h5f.FileID``; ``path`` is for messages. Raises ``UnreadableError``."""

    def flushed(self) -> Source:
        """Return the bytes of the file as the library has them now."""

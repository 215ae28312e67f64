"""The one place where an exception of h5py becomes an ``H5fsError``.

h5py raises OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError and more on
files that are damaged or unusual, with no errno and no fixed meaning. The store checks its
preconditions first, so that any exception of h5py then means that the library cannot read this.
"""

from __future__ import annotations

from types import TracebackType

from h5fs.errors import H5fsError, UnreadableError, show_path


class reading:
    """Turn any exception of h5py within into ``UnreadableError``, naming what was read.

    h5fs's own errors pass as they are. ``what``: an HDF5 path or a text, after ``doing``.
    """

    __slots__ = ("_doing", "_what")

    def __init__(self, what: bytes | str, doing: str = "") -> None:
        self._what = what
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, H5fsError) or not isinstance(error, Exception):
            return
        what = show_path(self._what) if isinstance(self._what, bytes) else self._what
        raise UnreadableError(f"{self._doing}{what}: {explain(error)}") from error


def explain(error: BaseException) -> str:
    """Return h5py's reason on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())

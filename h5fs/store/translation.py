"""The one place where an exception of h5py becomes one of ours.

h5py raises OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError and more on
files that are damaged or unusual, with no errno and no fixed meaning. The store checks its
preconditions first, so that whatever h5py then raises means one thing: it cannot read this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from h5fs.errors import H5fsError, UnreadableError


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn any exception of h5py within into ``UnreadableError``, naming ``what`` was read.

    Our own errors pass as they are.
    """
    try:
        yield
    except H5fsError:
        raise
    except Exception as error:
        raise UnreadableError(f"{what}: {explain(error)}") from error


def explain(error: BaseException) -> str:
    """Return h5py's reason on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())

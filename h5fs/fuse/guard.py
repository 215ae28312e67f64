"""Where exceptions become errnos. No exception reaches ctypes, which would take it for success.

Runs on the session's threads, many at a time; keeps nothing but how long each call took.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from h5fs.errors import H5fsError, show_path
from h5fs.fuse.latencies import Latencies

_log = logging.getLogger("h5fs.fuse")

# Errors that are not logged: programs ask for files that are not there all the time.
_QUIET = frozenset(
    {
        errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENODATA,
        errno.EEXIST, errno.ENOTEMPTY,
    }
)  # fmt: skip
# Operations that change something: only the log can say why one of them was EINVAL.
_INVALID_IS_NEWS = frozenset(
    "create write flush fsync fsyncdir truncate rename link symlink mkdir".split()
)
_TWO_PATHS = frozenset({"rename", "link", "symlink"})


def guarded(
    function: Callable[..., int | None], latencies: Latencies | None = None
) -> Callable[..., int]:
    """Return a function that always returns an int: what ``function`` did, or a negative errno.

    Each call is noted in ``latencies``.
    """
    note = (latencies or Latencies()).note

    def call(*arguments: Any) -> int:
        start_ns = perf_counter_ns()
        try:
            answer = function(*arguments) or 0
        except BaseException as error:
            answer = _answer_to(error, function.__name__, arguments)
        # An error in counting must not change the answer.
        try:  # noqa: SIM105  (in each call; suppress() takes longer than the count)
            note(perf_counter_ns() - start_ns, answer)
        except BaseException:
            pass
        return answer

    return call


def _answer_to(error: BaseException, operation: str, arguments: tuple[Any, ...]) -> int:
    """Log an error and return its negative errno."""
    number = error.errno if isinstance(error, H5fsError) else errno.EIO
    if number <= 0:  # libfuse would take it for success
        number = errno.EIO
    # A log that fails must not turn the answer into something else.
    try:
        if not isinstance(error, H5fsError):
            what = f"{operation} {_object_of(operation, arguments)}"
            _log.error("%s: unexpected", what, exc_info=error)
            return -number
        is_news = error.is_news and (
            number not in _QUIET or (number == errno.EINVAL and operation in _INVALID_IS_NEWS)
        )
        level = logging.WARNING if is_news else logging.DEBUG
        if _log.isEnabledFor(level):
            what = f"{operation} {_object_of(operation, arguments)}"
            _log.log(level, "%s: %s: %s", what, os.strerror(number), error)
    except BaseException:
        pass
    return -number


def _object_of(operation: str, arguments: tuple[Any, ...]) -> str:
    """Return the path, or the two paths, that an operation was called with, for the log.

    libfuse passes None for a file that was unlinked while it is open.
    """
    if not arguments:
        return ""
    paths = arguments[: 2 if operation in _TWO_PATHS else 1]
    return " -> ".join(
        show_path(path) if isinstance(path, bytes) else "(unlinked)" if path is None else ""
        for path in paths
    )

"""The refusals of the log."""

from __future__ import annotations

from h5fs.errors import CannotOpenError


class LogMismatchError(CannotOpenError):
    """The log is not this file's, or not one that this version of h5fs can read."""

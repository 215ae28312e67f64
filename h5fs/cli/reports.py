"""Tells people what daemons had to say when their mounts had ended."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from h5fs.daemon.end_reports import EndReport
from h5fs.errors import show_path


def tell_reports(reports: Sequence[EndReport], *, stay: bool = False) -> None:
    """Print the messages of each report to stderr, a line each, with the mountpoint before it.

    ``stay``: the reports are there still, and a last line says what they go with.
    """
    for report in reports:
        for message in report.messages:
            _tell(report.mountpoint, message)
    if stay:
        for mountpoint in dict.fromkeys(report.mountpoint for report in reports):
            command = f"h5fs status {shlex.quote(mountpoint)}"
            _tell(mountpoint, f"this is told for a week, or until you run: {command}")


def _tell(mountpoint: str, message: str) -> None:
    print(f"h5fs: {_harmless(mountpoint)} has ended: {_harmless(message)}", file=sys.stderr)


def _harmless(text: str) -> str:
    """Return text that another process wrote, without control characters."""
    return show_path(text.encode("utf-8", "surrogateescape"))

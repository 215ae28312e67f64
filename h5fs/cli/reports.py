"""Tells people what daemons had to say when their mounts had ended."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from h5fs.daemon.end_reports import EndReport
from h5fs.errors import show_path


def tell_reports(reports: Sequence[EndReport]) -> None:
    """Print the messages of each report to stderr, a line each, with the mountpoint before it."""
    for report in reports:
        where = _harmless(report.mountpoint)
        for message in report.messages:
            print(f"h5fs: {where} has ended: {_harmless(message)}", file=sys.stderr)


def _harmless(text: str) -> str:
    """Return text that another process wrote, without control characters."""
    return show_path(text.encode("utf-8", "surrogateescape"))

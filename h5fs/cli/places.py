"""``FILE:/PATH``: an HDF5 file, and a place in its tree. Imports nothing that takes long."""

from __future__ import annotations

import os
from pathlib import Path

from h5fs.errors import MountError, UsageError
from h5fs.model.location import Location, Url, is_url


def split_place(text: str, *, needs_file: bool = True) -> tuple[Location, bytes] | None:
    """Split ``FILE:/path`` into the HDF5 file and the path in its mount.

    A URL ends at the first ``:/`` behind its host; it is always that of a file.
    With ``needs_file`` a mere ``FILE`` is one, too, with its root; else a mere path gives None. A
    colon in the name of a file that exists belongs to the name. Raises ``MountError`` when
    ``needs_file`` and there is no such file.
    """
    if is_url(text):
        return _split_url(text)
    at = len(text)
    while at > 0:
        is_end = (needs_file and at == len(text)) or text[at : at + 2] == ":/"
        if is_end and os.path.isfile(text[:at]):
            return Path(text[:at]), os.fsencode(text[at + 1 :].rstrip("/")) or b"/"
        at = text.rfind(":", 0, at)
    head, colon, inside = text.partition(":/")
    if not needs_file:
        return (Path(head), os.fsencode("/" + inside.rstrip("/"))) if colon else None
    if os.path.isdir(head):
        raise MountError(f"{head} is a folder; name an HDF5 file")
    for mark in (":", "/"):
        whole, _, rest = head.rpartition(mark)
        if os.path.isfile(whole):
            raise MountError(f"{head}: no such file; did you mean {whole}:/{rest}?")
    raise MountError(f"{head}: no such file")


def _split_url(text: str) -> tuple[Url, bytes]:
    begin = text.index("://") + len("://")
    url, _, inside = text[begin:].partition(":/")
    try:
        return Url(text[:begin] + url), os.fsencode("/" + inside.rstrip("/"))
    except ValueError as error:
        raise UsageError(f"{text.partition('?')[0]} is no URL: it {error}") from None

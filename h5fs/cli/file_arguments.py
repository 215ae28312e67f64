"""``FILE:/PATH``: an HDF5 file, and a place in its tree. Imports nothing that takes long."""

from __future__ import annotations

import os
import re
from pathlib import Path

from h5fs.errors import MountError, UsageError
from h5fs.model.location import Location, Url, is_url

_INSIDE = re.compile(r":/(?!/)")  # what follows is in the file; a query may have a URL in it


def _with_one_slash(text: str) -> str:
    """Return ``FILE:/GROUP`` for ``FILE://GROUP``, which looks like a URL, where there is FILE."""
    file, mark, inside = text.partition("://")
    return f"{file}:/{inside.lstrip('/')}" if mark and os.path.isfile(file) else text


def split_place(text: str, *, needs_file: bool = True) -> tuple[Location, bytes] | None:
    """Split ``FILE:/path`` into the HDF5 file and the path in its mount.

    A URL ends at the first ``:/`` behind its host; it is always that of a file.
    With ``needs_file`` a mere ``FILE`` is one, too, with its root; else a mere path gives None. A
    colon in the name of a file that exists belongs to the name. Raises ``MountError`` when
    ``needs_file`` and there is no such file.
    """
    text = _with_one_slash(text)
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


def absolute(location: Location) -> Location:
    """Return a location that does not depend on the working directory."""
    return absolute_path(location) if isinstance(location, Path) else location


def absolute_path(path: Path) -> Path:
    """Return an absolute path, without ``..`` unless that stands behind a symbolic link."""
    plain = Path(os.path.abspath(path))
    return plain if os.path.realpath(plain) == os.path.realpath(path) else path.absolute()


def find_folder(text: str) -> Location | None:
    """Return the folder that a text names, on this machine or at a URL; None for another place."""
    text = _with_one_slash(text)
    if not is_url(text):
        return Path(text) if os.path.isdir(text) else None
    url, inside = _split_url(text)
    return url if url.is_folder and inside == b"/" else None


def split_mounted(text: str) -> tuple[Location, bytes]:
    """Split what is to be mounted, ``FILE`` or ``FILE:/GROUP``, into the file and the group's path.

    That path is the one in a mount of the whole file, whether the group is named as there or as in
    HDF5; it is empty for the whole file. FILE may be missing. Raises ``UsageError``.
    """
    text = _with_one_slash(text)
    if is_url(text):
        location, inside = _split_url(text)
        return location, _path_of_group(inside)
    if os.path.lexists(text):
        return Path(text), b""
    ends = [found.start() for found in _INSIDE.finditer(text)]
    file = next((text[:end] for end in reversed(ends) if os.path.isfile(text[:end])), None)
    if file is None:
        if not ends or os.path.isdir(text[: ends[0] + 1]):  # a new file in a folder of such a name
            return Path(text), b""
        file = text[: ends[0]]
    return Path(file), _path_of_group(os.fsencode(text[len(file) + 1 :]))


def _path_of_group(inside: bytes) -> bytes:
    names = [name for name in inside.split(b"/") if name not in (b"", b".")]
    if not names:
        return b""
    from h5fs.projection.names import Projection, decode_name, encode_name

    for index, name in enumerate(names):
        meaning = decode_name(name)
        if meaning is None or meaning.projection is not Projection.FOLDER:
            names[index] = encode_name(name, Projection.FOLDER)
    return b"/" + b"/".join(names)


def _split_url(text: str) -> tuple[Url, bytes]:
    begin = text.index("://") + len("://")
    url, inside = [*_INSIDE.split(text[begin:], maxsplit=1), ""][:2]
    try:
        return Url(text[:begin] + url), os.fsencode("/" + inside.rstrip("/"))
    except ValueError as error:
        raise UsageError(f"{text.partition('?')[0]} is no URL: it {error}") from None

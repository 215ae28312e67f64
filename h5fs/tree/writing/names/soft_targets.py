"""The text of a symbolic link that is made, as the target of an HDF5 link. Pure.

HDF5 knows no ``..``, so that a text with one becomes the absolute path in the HDF5 file.
"""

from __future__ import annotations

from h5fs.errors import InvalidNameError, show_path
from h5fs.model.objects import Link, LinkKind
from h5fs.projection.names import OUTSIDE, DentryName, Projection, decode_name, unescape
from h5fs.projection.soft_links import endings_of, mark, with_ups


def link_from_text(
    name: DentryName, text: bytes, folder_path: bytes, mountpoint: bytes, part: bytes = b""
) -> Link:
    """Return the link that a symbolic link with that text means, in a folder of the mount.

    ``name`` has a link name. ``part`` is the folder that ``mountpoint`` shows; both it and
    ``folder_path`` are paths of the whole file. Texts of dangling links (`link_targets`) are read
    back: ``external:FILE:PATH`` is an external link, ``external::PATH`` a soft link to just that
    path. Raises ``InvalidNameError`` for a target outside of the mount.
    """
    assert name.link_name is not None
    if text.startswith(OUTSIDE):
        file, colon, path = text[len(OUTSIDE) :].partition(b":")
        path = with_ups(path)
        if path and not file:
            if name.projection not in (Projection.FOLDER, endings_of(path).own):
                path = mark(path, name.projection, Projection.FOLDER)
            return Link(name.link_name, LinkKind.SOFT, soft_target=path)
        if colon and name.projection is Projection.FOLDER:
            return Link(
                name.link_name, LinkKind.EXTERNAL, external_file=unescape(file), external_path=path
            )
    parts = text.split(b"/")
    is_relative = not text.startswith(b"/") and b".." not in parts
    if is_relative:
        parts = [part for part in parts if part not in (b"", b".")]
    else:
        parts = _components(text, folder_path, mountpoint, part)
    meanings = [_meaning(part) for part in parts]
    path = b"/".join(link_name for _, link_name in meanings)
    ending = meanings[-1][0] if meanings else Projection.FOLDER
    path = path or b"." if is_relative else b"/" + path
    return Link(name.link_name, LinkKind.SOFT, soft_target=mark(path, name.projection, ending))


def with_ending(link: Link, name: DentryName, text: bytes) -> Link:
    """Return a soft link under another name of the mount; ``text`` is its text there, and stays."""
    assert name.link_name is not None
    meaning = decode_name(text.rpartition(b"/")[2])
    ending = Projection.FOLDER if meaning is None else meaning.projection
    stored = mark(link.soft_target, name.projection, ending)
    return Link(name.link_name, LinkKind.SOFT, soft_target=stored)


def _components(text: bytes, folder_path: bytes, mountpoint: bytes, part: bytes) -> list[bytes]:
    root = part.split(b"/")[1:]
    if text.startswith(b"/"):
        inside = text.removeprefix(mountpoint.rstrip(b"/"))
        if inside == text or (inside and not inside.startswith(b"/")):
            raise InvalidNameError(f"{show_path(text)} is not in the mount")
        here = list(root)
    else:
        inside = text
        here = [component for component in folder_path.split(b"/") if component]
    for component in inside.split(b"/"):
        if component in (b"", b"."):
            continue
        if component == b"..":
            if len(here) == len(root):
                raise InvalidNameError(f"{show_path(text)} is not in the mount")
            here.pop()
        else:
            here.append(component)
    return here


def _meaning(dentry: bytes) -> tuple[Projection, bytes]:
    meaning = decode_name(dentry)
    if meaning is None or meaning.link_name is None:
        raise InvalidNameError(f"{show_path(dentry)} is the name of nothing that HDF5 can have")
    return meaning.projection, meaning.link_name

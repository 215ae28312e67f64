"""The text of a symbolic link that is made, as the target of an HDF5 link. Pure.

HDF5 knows no ``..``, so that a relative text becomes the absolute path in the HDF5 file.
"""

from __future__ import annotations

from h5fs.errors import InvalidNameError, show_path
from h5fs.objects import Link, LinkKind
from h5fs.projection.names import OUTSIDE, decode_name, unescape


def link_from_text(name: bytes, text: bytes, folder_path: bytes, mountpoint: bytes) -> Link:
    """Return the link that a symbolic link with that text means, in a folder of the mount.

    Texts of dangling links (`link_targets`) are read back: ``external:FILE:PATH`` is an external
    link, ``external::PATH`` a soft link to just that path. Raises ``InvalidNameError`` for a target
    outside of the mount.
    """
    if text.startswith(OUTSIDE):
        file, colon, path = text[len(OUTSIDE) :].partition(b":")
        if file and colon:
            return Link(name, LinkKind.EXTERNAL, external_file=unescape(file), external_path=path)
        if path:
            return Link(name, LinkKind.SOFT, soft_target=path)
    components = _components(text, folder_path, mountpoint)
    return Link(name, LinkKind.SOFT, soft_target=b"/" + b"/".join(map(_link_name, components)))


def _components(text: bytes, folder_path: bytes, mountpoint: bytes) -> list[bytes]:
    if text.startswith(b"/"):
        inside = text.removeprefix(mountpoint.rstrip(b"/"))
        if inside == text or (inside and not inside.startswith(b"/")):
            raise InvalidNameError(f"{show_path(text)} is not in the mount")
        here: list[bytes] = []
    else:
        inside = text
        here = [component for component in folder_path.split(b"/") if component]
    for component in inside.split(b"/"):
        if component in (b"", b"."):
            continue
        if component == b"..":
            if not here:
                raise InvalidNameError(f"{show_path(text)} is not in the mount")
            here.pop()
        else:
            here.append(component)
    return here


def _link_name(dentry: bytes) -> bytes:
    meaning = decode_name(dentry)
    if meaning is None or meaning.link_name is None:
        raise InvalidNameError(f"{show_path(dentry)} is the name of nothing that HDF5 can have")
    return meaning.link_name

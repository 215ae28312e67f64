"""Whether the part of a file that is to be mounted is a group of it."""

from __future__ import annotations

import stat
from contextlib import suppress

from h5fs.errors import H5fsError, MountError, NotFoundError, show_path
from h5fs.fuse.tree_interface import TreeInterface
from h5fs.model.settings import MountOptions
from h5fs.projection.names import OBJECT_SUFFIXES, OUTSIDE, decode_name


def check_part(tree: TreeInterface, options: MountOptions) -> None:
    """Raise ``MountError`` where the part that is to be mounted is no group of the file."""
    here = b""
    for name in options.part.split(b"/")[1:]:
        above, here = here, here + b"/" + name
        place = f"{options.store.location}:{show_path(here)}"
        try:
            mode = tree.get_status(here).mode
        except NotFoundError:
            file = _find_file(tree, above, name)
            if file is None:
                raise MountError(f"{place}: no such group") from None
            place, mode = f"{options.store.location}:{show_path(file)}", stat.S_IFREG
        except H5fsError as error:
            raise MountError(f"{place}: {error}") from None
        if stat.S_ISLNK(mode):
            target = show_path(tree.read_link(here).removeprefix(OUTSIDE + b":"))
            raise MountError(f"{place} is a link to {target}: name the group itself")
        if not stat.S_ISDIR(mode):
            raise MountError(f"{place} is not a group; only a group can be mounted")


def _find_file(tree: TreeInterface, folder: bytes, name: bytes) -> bytes | None:
    """Return the path of the file that was taken for a group: by its name, or by HDF5's."""
    meaning = decode_name(name)
    link_name = (meaning.link_name if meaning is not None else None) or name
    for ending in OBJECT_SUFFIXES:
        path = folder + b"/" + link_name + ending
        with suppress(H5fsError):
            tree.get_status(path)
            return path
    return None

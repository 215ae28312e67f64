"""Link names in the hidden group, where a mount that writes keeps what has no other name. Pure.

The group is in the HDF5 file's root, and is removed when the mount ends. It holds objects that
programs have open and that no other link leads to any more; and files that are no object of the
HDF5 file yet, named by their path in the mount, so that they outlive the daemon.

The digits in its name are the mark that a mount has made it: no other program comes to that name by
chance, so that what other programs keep in groups of their own is never hidden.
"""

from __future__ import annotations

HIDDEN_GROUP = b".h5fs-hidden-8d1f4c07a96e52b3"
HIDDEN_PATH = b"/" + HIDDEN_GROUP

_NAMELESS = b"nameless-"
_DATASET, _BYTES = b"dataset:", b"bytes:"
_MOST_NAME_BYTES = 255


def nameless_name(object_id: int) -> bytes:
    """Return the link name of an object that is open and has no other."""
    return _NAMELESS + b"%x" % object_id


def is_nameless(name: bytes) -> bool:
    """Whether a link's object was kept only because a program had it open."""
    return name.startswith(_NAMELESS)


def kept_name(path: bytes, *, is_dataset: bool) -> bytes:
    """Return the link name for a file of the mount that is not the file of any object.

    ``is_dataset``: the link leads to a dataset that had a name before; else to a dataset that holds
    the file's bytes.
    """
    escaped = path.replace(b"%", b"%25").replace(b"/", b"%2F")
    return (_DATASET if is_dataset else _BYTES) + escaped


def path_of_kept(name: bytes) -> tuple[bytes, bool] | None:
    """Return path and ``is_dataset`` for a name of ``kept_name``; None for any other.

    The file may be a stranger's: a path that no file of a mount has is none.
    """
    for prefix in (_DATASET, _BYTES):
        if name.startswith(prefix):
            escaped = name[len(prefix) :]
            path = escaped.replace(b"%2F", b"/").replace(b"%25", b"%")
            return (path, prefix is _DATASET) if _is_of_a_mount(path) else None
    return None


def is_own(name: bytes) -> bool:
    """Whether a mount may have made a link of the hidden group, by its name."""
    return is_nameless(name) or name.startswith((_DATASET, _BYTES))


def is_below_hidden(path: bytes) -> bool:
    """Whether a path without its first slash is the hidden group's, or of something in it."""
    return path == HIDDEN_GROUP or path.startswith(HIDDEN_GROUP + b"/")


def _is_of_a_mount(path: bytes) -> bool:
    """Whether a path is absolute and leads nowhere but down."""
    first, *names = path.split(b"/")
    return (
        not first
        and bool(names)
        and all(name not in (b"", b".", b"..") and len(name) <= _MOST_NAME_BYTES for name in names)
    )


def is_hidden(group_path: bytes, name: bytes) -> bool:
    """Whether a link of a group is the hidden group's."""
    return name == HIDDEN_GROUP and group_path == b"/"

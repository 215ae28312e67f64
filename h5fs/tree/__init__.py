"""The POSIX view: paths, inodes, file handles.

Turns paths into nodes and nodes into answers, with the store's values and the projection's
functions. Knows no h5py and no FUSE: whoever holds a Tree can look at an HDF5 file as a file
system without mounting it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from h5fs.tree.folders.domain_folder_tree import DomainFolderTree
    from h5fs.tree.folders.folder_tree import FolderTree
    from h5fs.tree.tree import Tree
    from h5fs.tree.versions.following_tree import FollowingTree
    from h5fs.tree.versions.renewing_tree import RenewingTree
    from h5fs.tree.versions.shared_writable_tree import SharedWritableTree
    from h5fs.tree.writing.writable_tree import WritableTree

__all__ = [
    "DomainFolderTree",
    "FolderTree",
    "FollowingTree",
    "RenewingTree",
    "SharedWritableTree",
    "Tree",
    "WritableTree",
]

# Each is imported when it is first asked for: a command needs one of them, and is to start fast.
if not TYPE_CHECKING:
    _MODULES = {
        "DomainFolderTree": "folders.domain_folder_tree",
        "FolderTree": "folders.folder_tree",
        "FollowingTree": "versions.following_tree",
        "RenewingTree": "versions.renewing_tree",
        "SharedWritableTree": "versions.shared_writable_tree",
        "Tree": "tree",
        "WritableTree": "writing.writable_tree",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

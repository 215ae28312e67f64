"""What a folder of HDF5 files is to ``FolderTree``: files and folders, some of them HDF5 files."""

from __future__ import annotations

from typing import Protocol

from h5fs.model.file_status import SpaceStatus
from h5fs.tree.dentries import Dentries
from h5fs.tree.status import Status
from h5fs.tree.versions.following_tree import FollowingTree


class PassedFile(Protocol):
    """An open file that is no HDF5 file, and passed through as it is."""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` on; return how much. Raises ``H5fsError``."""

    def close(self) -> None:
        """Close the file."""


class FolderContents(Protocol):
    """A folder. Paths begin with a slash, and count from it; any thread may call any method.

    All raise ``H5fsError`` with what a program is to see.
    """

    def get_status(self, path: bytes) -> Status:
        """Return the status of what stands at a path; an HDF5 file is a folder there."""

    def list_folder(self, path: bytes) -> Dentries:
        """Return what is in a folder."""

    def read_link(self, path: bytes) -> bytes:
        """Return the text of a symbolic link."""

    def open_file(self, path: bytes) -> PassedFile:
        """Open a file that is no HDF5 file."""

    def get_space(self) -> SpaceStatus:
        """Return how much room there is where the folder is."""

    def find_hdf5(self, path: bytes) -> int | None:
        """Return a number of its own for the HDF5 file at a path; None when something else is
        there. Raises nothing."""

    def open_tree(self, path: bytes) -> FollowingTree:
        """Return the tree of an HDF5 file, which opens it later."""

    def forget(self) -> None:
        """Assume that everything has changed."""

    def interrupt(self) -> None:
        """Let calls that wait for another machine end with an error, now and later."""

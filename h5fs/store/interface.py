"""The store as the tree sees it: questions and answers in plain values.

Nothing here imports h5py, so that what stands behind the interface may live in another process.
"""

from __future__ import annotations

import os
from typing import Protocol

from h5fs.datatypes import Datatype
from h5fs.objects import (
    Attribute,
    DatasetInfo,
    Link,
    ObjectInfo,
    ObjectRef,
    StorageInfo,
    UnreadableAttribute,
)


class Store(Protocol):
    """An HDF5 file, open. Safe to call from any thread.

    Every method may raise ``UnreadableError``.
    """

    def root(self, file: int = 0) -> ObjectInfo:
        """Return the root group of a file."""

    def describe_object(self, ref: ObjectRef) -> ObjectInfo:
        """Return what an object's header says now."""

    def list_links(self, group: ObjectRef) -> tuple[Link, ...]:
        """Return all links of a group in name order."""

    def get_link(self, group: ObjectRef, name: bytes) -> Link:
        """Return one link. Raises ``NotFoundError``."""

    def follow(self, group: ObjectRef, link: Link) -> ObjectInfo:
        """Return the object that a link leads to.

        Raises ``NotFoundError``, ``LinkLoopError``, ``ForbiddenError``.
        """

    def find_link(self, group: ObjectRef, path: bytes) -> tuple[ObjectRef, Link | None]:
        """Return the group and the link that a path's last component names, not followed.

        The link is None when the path names the starting group. Raises as ``follow`` does.
        """

    def describe_dataset(self, ref: ObjectRef) -> DatasetInfo:
        """Return how a dataset looks as ``.npy`` files.

        Reads every element once when the type has variable-length parts; else no element. Raises
        ``UnsupportedTypeError``, and ``ForbiddenError`` as ``read_elements`` does.
        """

    def describe_storage(self, ref: ObjectRef) -> StorageInfo:
        """Return how a dataset is stored. Raises as ``describe_dataset`` does."""

    def read_elements(self, ref: ObjectRef, start: int, stop: int) -> bytes | bytearray:
        """Return elements ``[start, stop)``, counted row-major, as the ``.npy`` file holds them.

        Raises ``ForbiddenError`` when they lie where policy does not allow to read.
        """

    def read_offsets(self, ref: ObjectRef, start: int, stop: int) -> bytes:
        """Return offsets ``[start, stop)`` into the values of variable-length sequences, ``<i8``.

        There is one more of them than sequences.
        """

    def read_values(self, ref: ObjectRef, start: int, stop: int) -> bytes:
        """Return values ``[start, stop)`` of all variable-length sequences, one after another."""

    def read_attributes(self, ref: ObjectRef) -> tuple[Attribute | UnreadableAttribute, ...]:
        """Return an object's attributes, in the order that HDF5 iterates them."""

    def describe_datatype(self, ref: ObjectRef) -> Datatype:
        """Return a committed datatype."""

    def file_status(self, file: int) -> os.stat_result:
        """Return the ``stat`` of the file that an ``ObjectRef`` names."""

    def file_system_status(self) -> os.statvfs_result:
        """Return the ``statvfs`` of the file system that holds the mounted file."""

    def close(self) -> None:
        """Close the file and all that links led to."""

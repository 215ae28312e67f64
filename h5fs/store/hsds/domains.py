"""What is known of a domain, and its status as that of a file."""

from __future__ import annotations

import os
import stat

from h5fs.model.file_status import FileStatus, SpaceStatus
from h5fs.store.hsds.answers import DomainAnswer
from h5fs.store.hsds.link_map import LinkMaps

_BLOCK_BYTES = 4096


class Domain:
    """One domain: its path, its root group's id and its links once they were asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root = ""
        self.maps: LinkMaps | None = None


def describe_file(domain: DomainAnswer) -> FileStatus:
    """Return the status of a domain as that of a file of the mounting user's.

    The service counts a domain's size now and then; until it has, it is that of an empty file's
    one block.
    """
    mtime_ns = int(max(domain.last_modified, 0.0) * 1e9)
    size = max(int(domain.total_size), _BLOCK_BYTES)
    return FileStatus(stat.S_IFREG | 0o444, os.getuid(), os.getgid(), size, mtime_ns, mtime_ns)


def describe_space(domain: DomainAnswer) -> SpaceStatus:
    """Return the status of a file system that the domain fills: nobody knows how much is left."""
    blocks = -(-max(int(domain.total_size), _BLOCK_BYTES) // _BLOCK_BYTES)
    return SpaceStatus(_BLOCK_BYTES, _BLOCK_BYTES, blocks, 0, 0)

"""The options of ``-o`` as keyword arguments of ``h5fs.mount``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypedDict


class MountKeywords(TypedDict, total=False):
    """The options as keyword arguments of ``h5fs.mount``; a test compares them with the table."""

    external: Literal["none", "folder", "all"]
    locking: Literal["default", "true", "false", "best-effort"]
    log: str | os.PathLike[str]
    cache: str | int
    workers: int
    deadline: float
    memory: str | int
    max_chunk: str | int
    max_depth: int
    xattr: bool
    views: str | Sequence[str]
    view_size: int
    swmr: bool
    endpoint: str
    commit: float
    durability: Literal["on", "off"]
    compression: str
    shuffle: bool
    chunks: str
    endpoint_url: str
    region: str
    profile: str
    anon: bool
    streams: int
    timeout: float
    revalidate: float
    disk_cache: str | int
    allow_other: bool
    allow_root: bool
    uid: int
    gid: int
    umask: str
    nonempty: bool
    fsname: str
    auto_unmount: bool

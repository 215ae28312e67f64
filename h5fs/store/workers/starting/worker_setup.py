"""What a worker is started with, as bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from h5fs.model.settings import StoreOptions
from h5fs.store.workers.worker_file import FileKind

# Not the location: a worker is told a path, and never a URL, which may hold a key.
_DAEMONS_OWN = ("location", "remote")
_Settings: Any = msgspec.defstruct(
    "_Settings",
    [
        (name, kind)
        for name, kind in get_type_hints(StoreOptions).items()
        if name not in _DAEMONS_OWN and name in StoreOptions.__struct_fields__
    ],
)


class _WorkerSetup(msgspec.Struct, frozen=True):
    """The settings that a worker is started with: ``file`` is the path of the mounted file."""

    file: bytes
    settings: _Settings
    kind: FileKind
    grants: tuple[bytes, ...]


# Made once, since a worker is forked: to make it takes a millisecond.
_DECODER = msgspec.msgpack.Decoder(_WorkerSetup)


def encode_setup(options: StoreOptions, kind: FileKind, grants: tuple[bytes, ...]) -> bytes:
    """Return the settings of a worker, and which files it may read beside, as bytes."""
    names = _Settings.__struct_fields__
    settings = _Settings(**{name: getattr(options, name) for name in names})
    return msgspec.msgpack.encode(_WorkerSetup(os.fsencode(options.file), settings, kind, grants))


def decode_setup(encoded: bytes) -> tuple[StoreOptions, FileKind, tuple[bytes, ...]]:
    """Return what ``encode_setup`` was given."""
    setup = _DECODER.decode(encoded)
    settings = msgspec.structs.asdict(setup.settings)
    return StoreOptions(Path(os.fsdecode(setup.file)), **settings), setup.kind, setup.grants

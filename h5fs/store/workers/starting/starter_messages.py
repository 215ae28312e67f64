"""The messages between the daemon and the worker starter: one packet each way."""

from __future__ import annotations

import array
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from h5fs.model.settings import StoreOptions
from h5fs.store.workers.worker_file import FileKind

SPAWN, STATUS = b"S", b"?"
RUNNING = b"-"
_MAX_PACKET_BYTES = 4096
_MOST_DESCRIPTORS = 6  # a charge, a connection, a reply buffer, and three of a logged file


# Not the location: a worker is told a path, and never a URL, which may hold a key.
_DAEMONS_OWN = ("location", "remote")
_Settings: Any = msgspec.defstruct(
    "_Settings",
    [
        (name, kind)
        for name, kind in get_type_hints(StoreOptions).items()
        if name not in _DAEMONS_OWN and name in StoreOptions.__dataclass_fields__
    ],
)


class _Charge(msgspec.Struct, frozen=True):
    """The settings that a worker is started with: ``file`` is the path of the mounted file."""

    file: bytes
    settings: _Settings
    kind: FileKind
    grants: tuple[bytes, ...]


def encode_charge(options: StoreOptions, kind: FileKind, grants: tuple[bytes, ...]) -> bytes:
    """Return the settings of a worker, and which files it may read beside, as bytes."""
    names = _Settings.__struct_fields__
    settings = _Settings(**{name: getattr(options, name) for name in names})
    return msgspec.msgpack.encode(_Charge(os.fsencode(options.file), settings, kind, grants))


def decode_charge(encoded: bytes) -> tuple[StoreOptions, FileKind, tuple[bytes, ...]]:
    """Return what ``encode_charge`` was given."""
    charge = msgspec.msgpack.decode(encoded, type=_Charge)
    settings = msgspec.structs.asdict(charge.settings)
    return StoreOptions(Path(os.fsdecode(charge.file)), **settings), charge.kind, charge.grants


def serve(control: socket.socket, run_worker: Callable[..., object]) -> None:
    """Fork a worker for each request; the child runs ``run_worker`` and ends with it."""
    is_first, own_pid = True, os.getpid()
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, _MAX_PACKET_BYTES, _MOST_DESCRIPTORS)
        if not packet:
            os._exit(0)
        if packet.startswith(SPAWN):
            pid = os.fork()
            if pid == 0:
                control.close()
                run_worker(descriptors, own_pid=own_pid, complains=is_first)
            is_first = False
            for descriptor in descriptors:
                os.close(descriptor)
            handle = os.pidfd_open(pid)
            control.sendmsg(
                [b"%d" % pid],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [handle]))],
            )
            os.close(handle)
        else:
            control.send(_look_at(int(packet[1:])))


def _look_at(pid: int) -> bytes:
    """Return how a child ended, if it has."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # a child of an earlier worker starter, and ended with that
        return b"%d" % signal.SIGKILL
    return b"%d" % status if found else RUNNING

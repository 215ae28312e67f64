"""The process that has imported the HDF5 library and forks workers when asked.

The worker starter opens no HDF5 file itself, so that no file can harm it. It ends when the daemon
ends, since the socket between them then closes; and its workers end with it.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from h5fs.store.worker_process.confinement import Confinement, confine, die_with_parent, prepare
from h5fs.store.worker_process.freed_memory import keep_freed_memory
from h5fs.store.workers.grants import open_granted
from h5fs.store.workers.starting.starter_messages import serve
from h5fs.store.workers.starting.worker_setup import decode_setup
from h5fs.store.workers.worker_file import FileKind
from h5fs.system.cores import count_cores

_log = logging.getLogger(__name__)

# What workers import beyond the library's room when they are asked for it.
_LATE_MODULES = (
    "encodings.ascii",
    "h5fs.projection.views.rendering",
    "h5fs.store.format.datatype_message.builder",
    "numpy.ma",  # numpy.unique asks for it
    "tempfile",
)


def main() -> None:
    """Run the worker starter; the arguments are the number of the socket's descriptor, and names of
    modules that workers of this mount may need, where these are installed."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the daemon handles Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import_late_modules()
    for name in sys.argv[2:]:
        with suppress(ImportError):
            importlib.import_module(name)
    run(control)


def run(control: socket.socket) -> None:
    """Start workers as asked over ``control``, until that is closed. Does not return."""
    import h5fs.store.worker_process.worker  # noqa: F401  (what every worker would import)

    name_process("starter")
    prepare()
    keep_freed_memory()
    count_cores()
    serve(control, _run_worker, import_late_modules)


def import_late_modules() -> None:
    """Import what workers import when a file needs it, and register the filters.

    For a starter that lives longer than a command, or whose command needs many workers: no worker
    then has to do it.
    """
    import h5fs.store.hdf5 as room
    from h5fs.store.hdf5.plugins import register_plugins

    for each in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        importlib.import_module(each.name)
    for name in _LATE_MODULES:
        importlib.import_module(name)
    register_plugins()


def name_process(what: str) -> None:
    """Let ps and top show whose this process is; the kernel keeps the first 15 bytes."""
    with suppress(OSError):  # /proc may be missing: the name is for people alone
        Path("/proc/self/comm").write_bytes(b"h5fs:" + os.fsencode(what))


def _run_worker(descriptors: list[int], *, own_pid: int, complains: bool) -> None:
    """Run a worker; ``complains``: log which protections the system lacks."""
    from h5fs.store.worker_process.worker import ConnectionHandler, Worker
    from h5fs.store.workers.shared_buffers import LARGE_VIEWS_BYTES

    status = 1
    try:
        die_with_parent(own_pid)
        setup_descriptor, connection_descriptor, reply_buffer, *files = descriptors
        with open(setup_descriptor, "rb") as file:
            # The offset is also that of a worker that was to be this one, whose starter was killed.
            setup = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
        options, kind, grants = decode_setup(setup)
        name_process(options.location.name)
        connection = socket.socket(fileno=connection_descriptor)
        root = logging.getLogger()
        root.handlers[:] = [ConnectionHandler(connection)]
        root.setLevel(logging.INFO)
        # Shared memory counts towards the address space, and mapping a shared buffer takes up to
        # twice its size (`map_shared_buffer`).
        room = options.limits.memory_bytes + 2 * options.cache_bytes + LARGE_VIEWS_BYTES
        granted, known = open_granted(grants)
        # Made before: what it maps cannot be mapped afterwards. It opens no file yet.
        worker = Worker(options, connection, reply_buffer, kind, files, granted=known)
        # Only a plain file is opened anew, by its path or /proc/self/fd.
        own = files[:1] if kind is not FileKind.FETCHED else []
        missing = confine(Confinement((), room, descriptors=(*own, *granted), locked=tuple(files)))
        for descriptor in granted:
            os.close(descriptor)
        if missing and complains:
            _log.warning("workers go without some protections: %s", " | ".join(missing))
        worker.run()
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0  # the daemon was killed, with a request or an answer on its way
    except BaseException:
        _log.exception("the worker ends")
    finally:
        os._exit(status)

"""FUSE calls to tree calls and back: the only room that imports a FUSE binding.

Each function converts arguments, calls the tree once, and converts the result; it decides nothing.
The guard is the one place where exceptions become errnos, and it is total: whatever is raised,
libfuse gets a valid answer. Calls arrive on the session's threads, many at a time.

``import h5fs.fuse`` raises ``OSError`` that names what to install when no libfuse can be loaded.
Which binding runs, and how to choose one (``H5FS_FUSE=2`` or ``=3``), is in ``binding``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, cast

from h5fs.errors import MountError
from h5fs.fuse.latencies import CallMeter, OperationStatistics
from h5fs.fuse.library.binding import CHOICE_VARIABLE, load_binding
from h5fs.fuse.library.current_requests import CurrentRequests
from h5fs.fuse.library.libfuse import LIBFUSES, fuse_arguments
from h5fs.fuse.node_limit import NodeLimit
from h5fs.fuse.notifications import Notifier
from h5fs.fuse.read_ahead import widen_read_ahead
from h5fs.fuse.refused_changes import refuse_changes
from h5fs.fuse.session import MountRefusedError, Session
from h5fs.model.settings import MountOptions
from h5fs.system.kernel_mounts import find_device
from h5fs.system.system_errors import explain_system_error

if TYPE_CHECKING:  # these need numpy, which whoever asks for the version shall not wait for
    from h5fs.fuse.operations import Operations
    from h5fs.fuse.tree_interface import TreeInterface, WritingTreeInterface

__all__ = [
    "CallMeter",
    "Notifier",
    "OperationStatistics",
    "check_options",
    "describe_binding",
    "fuse_arguments",
    "serve",
]

_binding = load_binding()
_log = logging.getLogger(__name__)

_TAKES_DESCRIPTORS = 3


def check_options(options: MountOptions) -> None:
    """Raise ``MountError`` for what this libfuse cannot do: to write, or to take a descriptor."""
    reason = _binding.libfuse.WHY_NOT_WRITE
    if options.descriptor is not None and _binding.major < _TAKES_DESCRIPTORS:
        raise MountError(
            f"{options.mountpoint} as a mountpoint needs libfuse {_TAKES_DESCRIPTORS}; "
            f"{LIBFUSES[_TAKES_DESCRIPTORS].WHAT_TO_INSTALL}"
        )
    mode = options.mode
    if not mode.writes or reason is None:
        return
    best, libfuse = next(iter(LIBFUSES.items()))
    insisted = (
        f", and {CHOICE_VARIABLE}={_binding.major} insists on libfuse {_binding.major}"
        if os.environ.get(CHOICE_VARIABLE)
        else ""
    )
    raise MountError(
        f"--mode {mode.value} needs libfuse {best}, since {reason}{insisted}; "
        f"{libfuse.WHAT_TO_INSTALL} (--mode r works with libfuse {_binding.major})"
    )


def describe_binding() -> str:
    """Return the binding and its libfuse, as in "fusepy 3.0.1 over libfuse 2.9.9"."""
    return _binding.describe()


def serve(
    tree: TreeInterface | WritingTreeInterface,
    options: MountOptions,
    on_ready: Callable[[Notifier], None],
    on_hangup: Callable[[], None] | None = None,
    meter: CallMeter | None = None,
    on_end: Callable[[], None] = lambda: None,
) -> None:
    """Mount the tree and answer the kernel until it is unmounted or a signal ends it.

    A write mode needs a ``WritingTreeInterface``. The caller closes the tree afterwards.
    ``on_ready`` is called with a ``Notifier``, on a thread of the session, when the kernel has
    accepted the mount.
    ``on_hangup``: called on SIGHUP; without it SIGHUP ends the mount. ``meter`` counts the calls.
    ``on_end``: called when the mount ends, so that calls that still wait for something end soon.
    Raises ``MountError``, and nothing stays mounted, when libfuse cannot mount (it has written why
    to stderr) and when ``on_ready`` raises.
    """
    from h5fs.fuse.operations import Operations
    from h5fs.fuse.writing_operations import WritingOperations

    arguments = fuse_arguments(options, _binding.major)
    requests = CurrentRequests()
    session = Session(
        _binding, arguments, os.fsencode(options.mountpoint),
        requests if options.mode.writes else None,
        cast("WritingTreeInterface", tree).count_waiting if options.mode.writes else lambda: 0,
    )  # fmt: skip

    # Decoded chunks may take so much; a mount that has not read any has as much room for nodes.
    limit = NodeLimit(session.notifier.prune, options.store.cache_bytes)

    failures: list[BaseException] = []
    # Now, since the descriptor may stand for something else while INIT is answered.
    device = None if options.descriptor is None else find_device(options.descriptor)

    def on_init(connection: int, config: int | None) -> None:
        try:
            session.init(connection, config)
            widen_read_ahead(connection, options.mountpoint, arguments.read_ahead_bytes, device)
            on_ready(session.notifier)
        except BaseException as error:
            # libfuse would take the error for success, and the caller would wait for ever.
            failures.append(error)
            session.end()

    operations: Operations
    if options.mode.writes:
        writable = cast("WritingTreeInterface", tree)
        writable.call_when_waiting(session.let_another_receive)
        operations = WritingOperations(
            writable, _binding, on_init=on_init,
            has_xattrs=options.has_xattrs, requests=requests,
            forget_status=session.forget_status,
            part=options.part, meter=meter, note_nodes=limit.note,
        )  # fmt: skip
    else:
        operations = Operations(
            tree, _binding, on_init=on_init, has_xattrs=options.has_xattrs,
            # Where folders change, each opendir asks the tree whether the listing is still true.
            caches_folders=not (options.is_folder or options.store.is_swmr),
            part=options.part, meter=meter, note_nodes=limit.note,
        )  # fmt: skip

    def end() -> None:
        limit.end()
        on_end()

    try:
        table = operations.make_table(session.counted)
        if options.descriptor is not None and not options.mode.writes:
            refuse_changes(table)
        session.serve(table, on_hangup, end)
    except MountRefusedError as error:
        reason = f": {error}" if str(error) else ""
        raise MountError(f"libfuse could not mount at {options.mountpoint}{reason}") from None
    if failures:
        _raise_failure(failures[0], options)


def _raise_failure(error: BaseException, options: MountOptions) -> NoReturn:
    if isinstance(error, MountError):
        raise error
    if isinstance(error, OSError):
        reason = explain_system_error(error)
        raise MountError(f"the mount at {options.mountpoint} could not begin: {reason}") from None
    _log.error("the mount could not begin", exc_info=error)
    raise MountError(
        f"the mount at {options.mountpoint} could not begin with {describe_binding()}: "
        f"{type(error).__name__}: {error} (please report this)"
    ) from error

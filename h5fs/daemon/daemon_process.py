"""The daemon: a process that opens the file, mounts it, answers the kernel, and ends cleanly.

The HDF5 file is opened after the fork only, since HDF5's locks do not survive one. Until the mount
answers, errors go to the command that waits, and a signal ends the start and leaves nothing behind.
Once the mount has ended, no signal interrupts what is still to be committed.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import select
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import NoReturn

from h5fs.daemon.end_reports import leave_report
from h5fs.daemon.late_modules import import_late_modules, late_modules_of_workers
from h5fs.daemon.log_destination import Log, start_logging
from h5fs.daemon.mount_checks import claimed_mountpoint
from h5fs.daemon.open_tree import opened_to_mount
from h5fs.daemon.recent_messages import RecentMessages, keep_recent_messages
from h5fs.daemon.registry import registered
from h5fs.daemon.status_document import make_document, now_seconds
from h5fs.daemon.status_socket import answering
from h5fs.daemon.watcher import Watcher
from h5fs.errors import H5fsError, MountError
from h5fs.model.settings import ExternalPolicy, MountOptions
from h5fs.store.workers.starting.worker_starter import WorkerStarter
from h5fs.system.system_errors import advise, explain_system_error

_log = logging.getLogger(__name__)

READY = b"ready"
_PREFIX_VARIABLES = ("HDF5_EXT_PREFIX", "HDF5_VDS_PREFIX", "HDF5_EXTFILE_PREFIX")
# What to do about what libfuse and fusermount3 say.
_ADVICE = (
    (os.strerror(errno.EMFILE), advise(OSError(errno.EMFILE, ""))),
    ("user_allow_other", "; ask the administrator for that line, or mount without it"),
    (
        "Operation not permitted",
        "; a container must be started with --device /dev/fuse --cap-add SYS_ADMIN",
    ),
)
_MOST_LINES_AT_END = 200
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _GivenUpError(BaseException):
    """A signal has ended the start. Not an ``Exception``, so that nobody handles it as a fault."""


def run_daemon(options: MountOptions, writer: int) -> NoReturn:
    """Be the daemon. Errors before the mount answers are written to ``writer``."""
    status = 1
    try:
        os.setsid()
        complaints = os.memfd_create("h5fs-complaints")
        given = () if options.descriptor is None else (options.descriptor,)
        _let_go_of_descriptors(*given, writer, complaints)
        status = _serve_in_background(options, writer, complaints)
    except BaseException:
        _log.exception("the daemon ends")
    finally:
        logging.shutdown()
        os._exit(status)


def serve_in_foreground(options: MountOptions) -> None:
    """Mount, and return when the mount has ended. Raises ``MountError``."""
    log = start_logging(options)
    with _signals_of_start() as begun:
        try:
            _serve(options, log, lambda _problem: begun())  # it is in the log, and so on stderr
        except MountError:
            raise
        except OSError as error:
            raise MountError(explain_system_error(error)) from None
        except (H5fsError, _GivenUpError) as error:
            raise MountError(str(error)) from None


def _let_go_of_descriptors(*kept: int) -> None:
    """Close what the shell had open: a lock, a pipe, a file on a disk that is to be unmounted."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(null, number)
    os.dup2(kept[-1], 2)
    start = 3
    for number in sorted(kept):
        os.closerange(start, number)
        start = max(start, number + 1)
    os.closerange(start, max(os.sysconf("SC_OPEN_MAX"), 65536))


def _serve_in_background(options: MountOptions, writer: int, complaints: int) -> int:
    is_ready = False
    log: Log | None = None

    def on_ready(problem: str) -> None:
        nonlocal is_ready
        try:
            os.write(writer, READY + problem.encode("utf-8", "replace"))
        except BrokenPipeError:
            raise MountError("the command that waited for the mount is gone") from None
        is_ready = True
        begun()
        os.close(writer)
        # From here on complaints of libfuse and the C library belong in the log.
        if log is not None:
            log.take_stderr()

    def tell(text: str) -> None:
        if log is not None:
            _log.error("%s", text)
        if not is_ready:
            os.write(writer, text.encode("utf-8", "replace"))

    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        # Ignored until the FUSE room handles it: the file is only just being opened, so it is new.
        signal.signal(signal.SIGHUP, lambda *_: None)
    with _signals_of_start() as begun:
        try:
            log = start_logging(options)
            _serve(options, log, on_ready)
        except BaseException as error:
            tell(_explain(error, complaints))
            return 1
        if not is_ready:
            tell("the mount ended before it answered")
    return 0


@contextmanager
def _signals_of_start() -> Iterator[Callable[[], None]]:
    """Let signals end the start; once the yielded function was called, ignore them.

    While the mount lasts, the FUSE room handles signals.
    """
    has_begun = False

    def begun() -> None:
        nonlocal has_begun
        has_begun = True

    def handle(number: int, _frame: FrameType | None) -> None:
        if not has_begun:
            raise _GivenUpError(f"ended by {signal.Signals(number).name} before it was mounted")

    before = {number: signal.signal(number, handle) for number in _ENDING_SIGNALS}
    # The command that has forked this process holds them while it does that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING_SIGNALS)
    try:
        yield begun
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _explain(error: BaseException, complaints: int) -> str:
    """Return one line for the person who waits, with what libfuse wrote about the error."""
    if isinstance(error, OSError) and not isinstance(error, MountError):
        return explain_system_error(error)
    if not isinstance(error, (MountError, H5fsError, _GivenUpError)):
        said = " ".join(traceback.format_exception_only(error)).strip()
        return f"unexpected: {said} (please report this)"
    said = " ".join(os.pread(complaints, 2**16, 0).decode("utf-8", "replace").split())
    advice = next((then for word, then in _ADVICE if word in said), "")
    return f"{error}: {said}{advice}" if said else str(error)


def _serve(options: MountOptions, log: Log, on_ready: Callable[[str], None]) -> None:
    """Open the file and answer the kernel until the mount ends.

    ``on_ready`` is told of damage to the redo log, as a rule by an empty text. Raises
    ``MountError``.
    """
    # HDF5 also looks for the sources of virtual datasets in the working directory, so that is set
    # to the file's folder, where HDF5 looks anyway. (The open file keeps that disk busy already.)
    os.chdir(_working_folder(options))
    if options.store.external is not ExternalPolicy.ALL:
        for variable in _PREFIX_VARIABLES:  # HDF5 would look for files in further folders
            os.environ.pop(variable, None)
    _allow_descriptors()
    starter = WorkerStarter(log.descriptor, late_modules_of_workers(options))
    if options.store.workers != 0:
        starter.start()  # first: the starter imports the HDF5 library while this process goes on
    import_late_modules(options)
    recent = keep_recent_messages()
    try:
        if options.owner_pid is not None:
            _end_with(options.owner_pid)
        with _reporting_the_end(options) as ended:
            _serve_with(starter, options, on_ready, described=(log, recent), on_end=ended)
    finally:
        starter.close()
        if options.removes_mountpoint:
            with suppress(OSError):  # it is gone, or somebody has put something into it
                options.mountpoint.rmdir()


def _end_with(owner_pid: int) -> None:
    """End this process as SIGTERM does when another process ends. Raises ``MountError``."""
    try:
        owner = os.pidfd_open(owner_pid)
    except OSError:
        raise MountError("the program that asked for the mount is gone") from None

    def wait() -> None:
        select.select([owner], [], [])
        _log.info("process %d, to which the mount belonged, has ended", owner_pid)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="owner", daemon=True).start()


@contextmanager
def _reporting_the_end(options: MountOptions) -> Iterator[Callable[[], None]]:
    """At the mount's end, leave a report of what was logged after the yielded function's call."""
    last: RecentMessages | None = None

    def ended() -> None:
        nonlocal last
        last = keep_recent_messages(_MOST_LINES_AT_END)  # of what is left, each file has a line

    try:
        yield ended
    finally:
        is_findable = options.descriptor is None
        if last is not None and is_findable and (said := last.messages()):
            try:
                leave_report(options.mountpoint, [each.text for each in said])
            except OSError as error:
                _log.warning("h5fs umount cannot be told: %s", error)


def _working_folder(options: MountOptions) -> str:
    if options.store.url is not None:
        return "/"
    real = os.path.realpath(options.store.file)
    return real if options.is_folder else os.path.dirname(real)


def _serve_with(
    starter: WorkerStarter,
    options: MountOptions,
    on_ready: Callable[[str], None],
    *,
    described: tuple[Log, RecentMessages],
    on_end: Callable[[], None],
) -> None:
    try:
        from h5fs import fuse  # the import loads libfuse
    except OSError as error:
        raise MountError(str(error)) from None
    fuse.check_options(options)  # before the file is made or emptied
    from h5fs.tree import FolderTree, FollowingTree
    from h5fs.tree.contents.picture_content import missing_for

    with opened_to_mount(options, starter) as tree:
        followed = tree if isinstance(tree, (FollowingTree, FolderTree)) else None
        watcher = Watcher(followed) if followed is not None else None

        def start(notifier: fuse.Notifier) -> None:
            if watcher is not None:
                watcher.start(notifier)
            let_go()
            missing = missing_for(options.views)
            if missing:
                _log.warning("%s", missing)
            on_ready(tree.statistics().store.log_problem or missing)

        meter, started = fuse.CallMeter(), now_seconds()

        def describe() -> bytes:
            log, recent = described
            messages = recent.messages()
            return make_document(
                options, started, tree.statistics(), meter.statistics(), log.place, messages
            )

        # In the foreground SIGHUP means that the terminal is gone: it ends the mount.
        on_hangup = watcher.renew if watcher is not None and not options.foreground else None
        interrupt = followed.interrupt if followed is not None else lambda: None
        try:
            with claimed_mountpoint(options) as let_go, _findable(options, describe):
                fuse.serve(tree, options, start, on_hangup, meter, interrupt)
                on_end()
                tree.close()
        finally:
            if watcher is not None:
                watcher.stop()


@contextmanager
def _findable(options: MountOptions, describe: Callable[[], bytes]) -> Iterator[None]:
    """Let ``h5fs status`` and ``h5fs umount`` find this process as long as the block runs.

    Not for a mount that another program has made: nobody knows where.
    """
    if options.descriptor is not None:
        yield
        return
    with ExitStack() as entered:
        sockets = entered.enter_context(registered(options.mountpoint, options.store.location))
        if not sockets:
            _log.warning(
                "no record can be left in $XDG_RUNTIME_DIR, /run/user or /tmp: h5fs umount will "
                "not wait for this daemon, nor h5fs status know it"
            )
        for socket in sockets:
            entered.enter_context(answering(socket, describe))
        yield


def _allow_descriptors() -> None:
    """Raise the limit of open files as far as allowed: each block of chunks is an open file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

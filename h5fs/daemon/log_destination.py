"""Where the log goes: stderr in the foreground; a file or syslog in the background."""

from __future__ import annotations

import errno
import hashlib
import logging
import logging.handlers
import os
import sys
from pathlib import Path

from h5fs.daemon.cut_file_handler import CutFileHandler
from h5fs.errors import MountError
from h5fs.model.settings import MountOptions

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_SYSLOG_FORMAT = "h5fs[%(process)d]: %(message)s"
_MAX_NAME_BYTES = 200
_SYSLOG = "/dev/log"


class Log:
    """Where the log goes; ``descriptor`` is the log file's, None when the log is stderr itself.

    The descriptor stays valid when the log is cut, so that other processes may use it as stderr.
    ``place``: the log file's path, ``stderr`` or ``syslog``.
    """

    def __init__(self, handler: logging.Handler, descriptor: int | None, place: str) -> None:
        self.handler = handler
        self.descriptor = descriptor
        self.place = place

    def take_stderr(self) -> None:
        """Send what C libraries write to stderr to the log as well."""
        if self.descriptor is not None:
            os.dup2(self.descriptor, 2)


def start_logging(options: MountOptions) -> Log:
    """Send the log where the options say. Raises ``MountError`` when it cannot be opened."""
    if options.foreground and options.log.target is None:
        log = Log(logging.StreamHandler(sys.stderr), None, "stderr")
    elif options.log.target == "syslog":
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        log = Log(_open_syslog(), null, "syslog")
    else:
        log = _open_file(log_path(options), is_default=options.log.target is None)
    formatter = logging.Formatter(
        _SYSLOG_FORMAT if isinstance(log.handler, logging.handlers.SysLogHandler) else _FORMAT
    )
    # One line for each event, even when a name in the HDF5 file holds line ends.
    log.handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(log.handler)
    root.setLevel(options.log.level)
    logging.getLogger("h5py").setLevel(logging.WARNING)  # h5py's debug lines help nobody here
    return log


def log_path(options: MountOptions) -> Path:
    """Return the log file of a mount in the background."""
    if options.log.target is not None:
        return Path(options.log.target)
    return default_log_path(options.mountpoint)


def default_log_path(mountpoint: Path) -> Path:
    """Return the log file of a mount in the background whose options name none.

    Raises ``MountError`` where this user has no home folder.
    """
    if os.getuid() == 0:
        folder = Path("/var/log/h5fs")
    else:
        folder = Path(os.environ.get("XDG_STATE_HOME") or _home() / ".local" / "state", "h5fs")
    # The escaped mountpoint, as systemd names mount units.
    name = str(mountpoint).strip("/").replace("-", "\\x2d").replace("/", "-") or "-"
    encoded = os.fsencode(name)
    if len(encoded) > _MAX_NAME_BYTES:  # the end of a long path tells more than its beginning
        digest = hashlib.sha256(encoded).hexdigest()[:12]
        name = f"{digest}~{encoded[-_MAX_NAME_BYTES:].decode('utf-8', 'ignore')}"
    return folder / f"{name}.log"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # no $HOME, and a user without a line in the system's table
        raise MountError(
            "there is no home folder for the log; set HOME, or name the log with -o log=FILE"
        ) from None


def _open_file(path: Path, *, is_default: bool) -> Log:
    try:
        if is_default:
            _make_private_folder(path.parent)
        handler = CutFileHandler(path)
    except OSError as error:
        reason = "it is a pipe or a device" if error.errno == errno.ENXIO else error.strerror
        raise MountError(
            f"cannot write the log {path}: {reason}; choose another with -o log=FILE"
        ) from None
    return Log(handler, handler.stream.fileno(), os.path.abspath(path))


def _make_private_folder(folder: Path) -> None:
    """Make a folder for logs that only the user may read, since logs name objects."""
    before = os.umask(0o077)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    finally:
        os.umask(before)


def _open_syslog() -> logging.Handler:
    if not os.path.exists(_SYSLOG):  # Python's handler would say nothing, and drop every line
        raise MountError(f"no syslog listens at {_SYSLOG}; use -o log=FILE instead")
    return logging.handlers.SysLogHandler(
        _SYSLOG, facility=logging.handlers.SysLogHandler.LOG_DAEMON
    )

"""Where the log goes: stderr in the foreground; a file or syslog in the background."""

from __future__ import annotations

import hashlib
import logging
import logging.handlers
import os
import sys
from pathlib import Path

from h5fs.errors import MountError
from h5fs.options import MountOptions

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_SYSLOG_FORMAT = "h5fs[%(process)d]: %(message)s"
_MAX_LOG_BYTES = 10 * 2**20
_MAX_NAME_BYTES = 200
_SYSLOG = "/dev/log"


def start_logging(options: MountOptions) -> int | None:
    """Send the log where the options say. Raises ``MountError`` when it cannot be opened.

    Returns the descriptor of the log file, for what the system writes to stderr, if it is a file.
    """
    if options.foreground and options.log.target is None:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
    elif options.log.target == "syslog":
        handler = _open_syslog()
    else:
        handler = _open_file(log_path(options), is_default=options.log.target is None)
    formatter = logging.Formatter(
        _SYSLOG_FORMAT if isinstance(handler, logging.handlers.SysLogHandler) else _FORMAT
    )
    # One line for each event, whatever names the HDF5 file holds.
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(options.log.level)
    logging.getLogger("h5py").setLevel(logging.WARNING)  # its debug lines are about itself
    if isinstance(handler, logging.FileHandler) and handler.stream is not None:
        return handler.stream.fileno()
    return None


def log_path(options: MountOptions) -> Path:
    """Return the log file of a mount in the background."""
    if options.log.target is not None:
        return Path(options.log.target)
    if os.getuid() == 0:
        folder = Path("/var/log/h5fs")
    else:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        folder = Path(state, "h5fs")
    # The escaped mountpoint, as systemd names mount units.
    name = str(options.mountpoint).strip("/").replace("-", "\\x2d").replace("/", "-") or "-"
    encoded = os.fsencode(name)
    if len(encoded) > _MAX_NAME_BYTES:  # the end of a long path tells more than its beginning
        digest = hashlib.sha256(encoded).hexdigest()[:12]
        name = f"{digest}~{encoded[-_MAX_NAME_BYTES:].decode('utf-8', 'ignore')}"
    return folder / f"{name}.log"


def _open_file(path: Path, *, is_default: bool) -> logging.Handler:
    try:
        if is_default:
            path.parent.mkdir(parents=True, exist_ok=True)
        return logging.handlers.RotatingFileHandler(
            path,
            maxBytes=_MAX_LOG_BYTES,
            backupCount=1,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except OSError as error:
        raise MountError(
            f"cannot write the log {path}: {error.strerror}; choose another with -o log=FILE"
        ) from None


def _open_syslog() -> logging.Handler:
    if not os.path.exists(_SYSLOG):  # Python's handler would say nothing, and drop every line
        raise MountError(f"no syslog listens at {_SYSLOG}; use -o log=FILE instead")
    return logging.handlers.SysLogHandler(
        _SYSLOG, facility=logging.handlers.SysLogHandler.LOG_DAEMON
    )

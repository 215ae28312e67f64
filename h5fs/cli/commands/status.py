"""``h5fs status [MOUNTPOINT]``: what the mounts of this user do now; of all users, for root."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from h5fs.cli.commands.status_text import show_mount, show_text
from h5fs.cli.output.colors import shows_colors
from h5fs.cli.reports import tell_reports
from h5fs.daemon.end_reports import recent_reports, take_reports
from h5fs.daemon.registry import Daemon, find_daemon, find_daemons
from h5fs.daemon.status_socket import ask
from h5fs.errors import MountError
from h5fs.system.kernel_mounts import find_mount

_PATIENCE_SECONDS = 5.0
_MOST_ASKED_AT_ONCE = 32
_MOST_LINKS = 40
_MOST_LEVELS = 20

_SILENT = "tells no more: it has just begun, is ending, or is of an older version of h5fs"
# The keys of the document; a key that a daemon does not send is null.
_KEYS = (
    "mountpoint file part mode pid version uptime_seconds open_files drafts uncommitted cache "
    "remote workers quarantined_count quarantined operations log messages problem"
).split()


def run(arguments: argparse.Namespace) -> int:
    """Print the mounts; return 0, or 1 when a daemon does not answer. Raises ``MountError``."""
    only: Path | None = arguments.mountpoint
    if only is None:
        tell_reports(recent_reports(), stay=True)
    else:
        tell_reports(take_reports(_resolve(only)))
    daemons = find_daemons() if only is None else [_find(only)]
    with ThreadPoolExecutor(_MOST_ASKED_AT_ONCE) as askers:
        answers = list(askers.map(_ask, daemons))
    found = [answer for answer in answers if answer is not None]
    if only is not None and not found:
        raise MountError(_explain_no_daemon(only, Path(daemons[0].mountpoint)))
    if arguments.json:
        print(json.dumps([answer for answer, _ in found], indent=2))
    elif not found:
        print("no h5fs mounts")
    else:
        has_colors = shows_colors(arguments.color)
        print("\n\n".join(show_mount(answer, has_colors=has_colors) for answer, _ in found))
    for answer, is_stuck in found:
        if is_stuck:
            where = show_text(answer["mountpoint"])
            print(f"h5fs: {where}: {answer['problem']}", file=sys.stderr)
    return 1 if any(is_stuck for _, is_stuck in found) else 0


def _ask(daemon: Daemon) -> tuple[dict[str, Any], bool] | None:
    """Return what a daemon answers, and whether it is stuck; None when it is gone."""
    try:
        told = json.loads(ask(daemon, _PATIENCE_SECONDS))
        if not isinstance(told, dict) or not isinstance(told.get("mountpoint"), str):
            raise ValueError
        if not _is_shallow(told, _MOST_LEVELS):  # printing it would fail
            raise ValueError
        return {**dict.fromkeys(_KEYS), **told}, False
    except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
        if not _is_there(daemon):
            return None
        return _from_record(daemon, f"the daemon {_SILENT}"), False
    except TimeoutError:
        problem = (
            f"the daemon (pid {daemon.pid}) is stuck: no answer within {_PATIENCE_SECONDS:.0f} s"
        )
    except (ValueError, RecursionError):
        problem = f"the daemon (pid {daemon.pid}) gives an answer that is none"
    except OSError as error:
        reason = error.strerror or error
        problem = f"the daemon (pid {daemon.pid}) cannot be asked: {reason}"
    # One that was killed in the middle of an answer is gone, too.
    return (_from_record(daemon, problem), True) if _is_there(daemon) else None


def _is_there(daemon: Daemon) -> bool:
    return daemon.pid in (each.pid for each in find_daemons())


def _is_shallow(value: object, levels: int) -> bool:
    """Whether lists and objects in each other are no more than so many."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)


def _from_record(daemon: Daemon, problem: str) -> dict[str, Any]:
    return {
        **dict.fromkeys(_KEYS),
        "mountpoint": daemon.mountpoint,
        "file": daemon.file,
        "pid": daemon.pid,
        "uptime_seconds": round(max(time.time() - daemon.started_ns / 1e9, 0.0), 3),
        "problem": problem,
    }


def _find(mountpoint: Path) -> Daemon:
    """Return the daemon of a mount. Raises ``MountError``."""
    place = _resolve(mountpoint)
    found = find_daemon(place)
    if found is None:
        raise MountError(_explain_no_daemon(mountpoint, place))
    return found


def _explain_no_daemon(mountpoint: Path, place: Path) -> str:
    mount = find_mount(place)
    if mount is None:
        return f"{mountpoint} is no h5fs mount"
    if not mount.is_h5fs:
        return f"{mountpoint} is no h5fs mount but {mount.type}"
    return (
        f"{mountpoint} is an h5fs mount whose daemon is another user's, or gone; if it is gone: "
        f"h5fs umount {mountpoint}"
    )


def _resolve(mountpoint: Path) -> Path:
    """Return the real path of a mountpoint without asking the mount, whose daemon may be stuck.

    Raises ``MountError`` for symbolic links in a circle.
    """
    path = os.path.abspath(mountpoint)
    for _ in range(_MOST_LINKS):
        folder, name = os.path.split(path)
        path = os.path.join(os.path.realpath(folder), name)
        if find_mount(Path(path)) is not None or not os.path.islink(path):
            return Path(path)
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
    raise MountError(f"{mountpoint}: {os.strerror(errno.ELOOP)}")

"""``h5fs log [-f] [MOUNTPOINT]``: what a mount has logged."""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import sys
from pathlib import Path

from h5fs.daemon.log_destination import default_log_path
from h5fs.daemon.registry import Daemon, find_daemon, find_daemons
from h5fs.daemon.status_socket import ask
from h5fs.errors import MountError
from h5fs.system.system_errors import explain_system_error

_ANSWER_SECONDS = 5.0
_LOOK_SECONDS = 0.2


def run(arguments: argparse.Namespace) -> int:
    """Print the log of a mount, also of one that has ended. Raises ``MountError``."""
    daemon = _find(arguments.mountpoint)
    place = _log_of(daemon) if daemon is not None else str(_log_of_ended(arguments.mountpoint))
    if not os.path.isabs(place):
        raise MountError(
            f"this mount logs to {place}"
            + ("; journalctl -t h5fs shows that" if place == "syslog" else "")
        )
    try:
        with open(place, "rb") as log:
            shutil.copyfileobj(log, sys.stdout.buffer)
            sys.stdout.flush()
            if arguments.follow and daemon is not None:
                _follow(Path(place), log.tell(), daemon.pid)
    except FileNotFoundError:
        raise MountError(f"{place}: nothing was logged there") from None
    except OSError as error:
        raise MountError(explain_system_error(error)) from None
    return 0


def _follow(place: Path, seen_bytes: int, pid: int) -> None:
    """Print what is added to a log until its daemon has ended. Raises ``OSError``."""
    try:
        daemon = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        has_ended = False
        while True:
            with place.open("rb") as log:
                # A log that has grown large is emptied, and begins anew.
                log.seek(seen_bytes if place.stat().st_size >= seen_bytes else 0)
                shutil.copyfileobj(log, sys.stdout.buffer)
                sys.stdout.flush()
                seen_bytes = log.tell()
            if has_ended:
                return
            ended, _, _ = select.select([daemon], [], [], _LOOK_SECONDS)
            has_ended = bool(ended)
    finally:
        os.close(daemon)


def _find(mountpoint: Path | None) -> Daemon | None:
    """Return the daemon of a mount; None when nothing is mounted there. Raises ``MountError``."""
    if mountpoint is None:
        daemons = find_daemons()
        if len(daemons) != 1:
            places = " ".join(each.mountpoint for each in daemons)
            raise MountError(f"which mount? h5fs log MOUNTPOINT ({places or 'there are none now'})")
        return daemons[0]
    return find_daemon(Path(os.path.realpath(mountpoint)))


def _log_of(daemon: Daemon) -> str:
    try:
        told = json.loads(ask(daemon, _ANSWER_SECONDS))
        place = told["log"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        place = None
    # A stuck daemon tells nothing, and its log is needed most of all.
    return place if isinstance(place, str) else str(default_log_path(Path(daemon.mountpoint)))


def _log_of_ended(mountpoint: Path) -> Path:
    place = default_log_path(Path(os.path.realpath(mountpoint)))
    if not place.exists():
        raise MountError(
            f"nothing is mounted at {mountpoint}, and no mount there has logged to {place}"
        )
    return place

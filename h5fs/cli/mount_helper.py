"""``mount.h5fs``: what mount(8) starts for ``mount -t h5fs``, fstab(5) and systemd.

It speaks mount(8)'s language: ``FILE DIR [-sfnv] [-N namespace] [-o options] [-t type]``, and its
exit statuses. The rest is the mount command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from h5fs.cli.commands.mount import make_mount_options, warn
from h5fs.cli.mount_options import is_known, split_options
from h5fs.cli.parsers import Parser, build_parser
from h5fs.cli.process_list import hide_secrets
from h5fs.cli.standard_streams import open_missing_streams
from h5fs.daemon.mount_checks import check_mount
from h5fs.daemon.mounting import mount
from h5fs.errors import MountError, UsageError, say_on_one_line

# mount(8), EXIT STATUS.
_WRONG_INVOCATION = 1
_INTERNAL_ERROR = 4
_INTERRUPTED = 8
_MOUNT_FAILED = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Mount as mount(8) asks; return an exit status of mount(8)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    hide_secrets(words)
    open_missing_streams()  # a boot script may have none
    try:
        _mount(words)
    except UsageError as error:
        return _complain(error, _WRONG_INVOCATION)
    except MountError as error:
        return _complain(error, _MOUNT_FAILED)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        text = f"unexpected: {type(error).__name__}: {error} (please report this)"
        return _complain(MountError(text), _INTERNAL_ERROR)
    return 0


def _complain(error: MountError, status: int) -> int:
    print(f"mount.h5fs: {say_on_one_line(error)}", file=sys.stderr)
    return status


def _mount(words: list[str]) -> None:
    parser = Parser(prog="mount.h5fs", description="Mount an HDF5 file, for mount(8).")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("mountpoint", metavar="DIR")
    parser.add_argument("-o", dest="options", metavar="OPTIONS", action="append", default=[])
    parser.add_argument("-s", action="store_true", help="let options pass that are not known")
    parser.add_argument("-f", action="store_true", help="check only, and mount nothing")
    parser.add_argument("-n", action="store_true", help="nothing: there is no mtab to write")
    parser.add_argument("-v", action="store_true", help="log more")
    parser.add_argument("-N", dest="namespace", metavar="NAMESPACE", help="not supported")
    parser.add_argument("-t", dest="type", metavar="TYPE", help="h5fs or fuse.h5fs")
    given = parser.parse_args(words)
    if given.namespace is not None:
        raise UsageError(
            "mounting in another namespace (-N) is not supported; run it there: "
            f"nsenter --mount={given.namespace} mount -t h5fs ..."
        )
    options = [option for text in given.options for option in split_options(text)]
    options = [option for option in options if option != "rw"]  # which mount(8) adds by itself
    if given.s:
        options = [option for option in options if is_known(option)]
    # A file may be named like an option, so "--" stands before it.
    command = ["mount", *(["-v"] if given.v else []), *_pass_on(options)]
    mount_options = make_mount_options(
        build_parser().parse_args([*command, "--", given.file, given.mountpoint])
    )
    if given.f:
        check_mount(mount_options)
        return
    # At boot there may be no $HOME, and the log's folder may be in it.
    os.environ.setdefault("HOME", "/root" if os.getuid() == 0 else "/")
    warn(mount(mount_options))


def _pass_on(options: list[str]) -> list[str]:
    words = []
    for option in options:
        words += ["-o", option.replace(",", "\\,")]
    return words

"""The command line: arguments to options to an exit status."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import h5fs
from h5fs.errors import MountError, UsageError
from h5fs.mounting import mount, unmount
from h5fs.options import LogOptions, Mode, MountOptions, StoreOptions, parse_options

# Words that a file to mount cannot be named by; ./check can.
_COMMANDS = ("check", "recover", "tree", "cat", "cp", "status")

_MOUNT_HELP = """\
Mount an HDF5 file as a folder tree: groups are folders, datasets are .npy files,
attributes are .attrs.json files.

examples:
  h5fs data.h5 mnt                 mount, and return to the prompt
  h5fs umount mnt                  unmount
  h5fs data.h5 mnt --mode r+       let programs write, too
  h5fs data.h5 mnt -f -v           stay in the foreground, log to the terminal
  h5fs data.h5 mnt -o allow_other,external=none
"""

_OPTIONS_HELP = """\
opt,opt=value,...: external=none|folder|all (files that links in the HDF5 file lead to: none, those
below its own folder, all; default folder); locking=true|false|best-effort (HDF5's file locking;
default as in h5py); log=FILE|syslog; cache=SIZE (decoded chunks kept in memory, default 256M);
workers=N (processes that read through the HDF5 library, default the number of cores); what a file
may cost before an object of it is an error: deadline=SECONDS (30), memory=SIZE (4G), max_chunk=SIZE
(512M), max_depth=N (1000); mode=MODE (as --mode, for fstab); for modes that write: commit=SECONDS
(how long what was closed may wait for the disk, 5; 0: not at all), durability=off (until somebody
calls fsync, or the end of the mount), compression=gzip[:LEVEL], shuffle, chunks=AxB (how new
datasets are stored; contiguous by default); and those of FUSE and mount(8): allow_other, uid=N,
gid=N, umask=M, nonempty, ..."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 1 an error, 2 wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["umount"]:
            unmount(_parse_unmount(words[1:]))
        elif words and words[0] in _COMMANDS:
            return _run_command(words[0], words[1:])
        else:
            mount(_parse_mount(words[1:] if words[:1] == ["mount"] else words))
    except UsageError as error:
        return _complain(error, 2)
    except MountError as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return 130
    return 0


def _complain(error: MountError, status: int) -> int:
    print(f"h5fs: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _parse_mount(words: Sequence[str]) -> MountOptions:
    parser = argparse.ArgumentParser(
        prog="h5fs",
        usage="h5fs [mount] FILE MOUNTPOINT [--mode MODE] [-o OPTIONS] [-f] [-v | --debug]\n"
        "       h5fs umount MOUNTPOINT\n"
        "       h5fs tree | cat | cp | check | recover | status ...  (h5fs WORD --help)",
        description=_MOUNT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the HDF5 file")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", type=Path, help="an empty folder")
    parser.add_argument(
        "--mode",
        metavar="MODE",
        help="as in h5py: r (read only, the default), r+ (read and write), a (make the file if "
        "there is none), w (begin anew), x or w- (make it, fail if it exists)",
    )
    parser.add_argument(
        "-o", dest="options", metavar="OPTIONS", action="append", default=[], help=_OPTIONS_HELP
    )
    parser.add_argument(
        "-f", "--foreground", action="store_true", help="stay in the foreground, log to stderr"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    parser.add_argument("--debug", action="store_true", help="log everything")
    parser.add_argument("--version", action=_ShowVersion, help="show h5fs's version and FUSE's")
    given = parser.parse_args(words)
    parsed = parse_options(given.options)
    # fstab(5) and mount(8) have nothing but -o.
    mode = _parse_mode(given.mode if given.mode is not None else parsed.mode or "r")
    try:
        os.getcwd()
    except OSError as error:
        raise MountError(f"the working directory is gone ({error.strerror}): cd first") from None
    return MountOptions(
        # realpath of the mountpoint, since the kernel's table has no other.
        mountpoint=Path(os.path.realpath(given.mountpoint)),
        store=StoreOptions(
            file=Path(os.path.abspath(given.file)),
            mode=mode,
            new_datasets=parsed.new_datasets,
            commit_seconds=parsed.commit_seconds,
            locking=parsed.locking,
            external=parsed.external,
            workers=parsed.workers,
            cache_bytes=parsed.cache_bytes,
            limits=parsed.limits,
            is_swmr=parsed.is_swmr,
        ),
        log=LogOptions(_log_target(parsed.log), _log_level(given)),
        mode=mode,
        foreground=given.foreground,
        has_xattrs=parsed.has_xattrs,
        fuse=parsed.fuse,
        is_folder=given.file.is_dir(),
    )


def _run_command(word: str, words: Sequence[str]) -> int:
    module = importlib.import_module(f"h5fs.commands.{word}")
    parser = argparse.ArgumentParser(prog=f"h5fs {word}", description=module.HELP)
    module.add_arguments(parser)
    logging.basicConfig(level=logging.ERROR, format="h5fs: %(message)s")
    status: int = module.run(parser.parse_args(words))
    return status


class _ShowVersion(argparse.Action):
    """Prints the versions and exits; looks for libfuse only then."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, *_arguments: object) -> None:
        try:
            from h5fs import adapter

            binding = adapter.describe_binding()
        except OSError as error:
            binding = f"no FUSE: {error}"
        print(f"h5fs {h5fs.__version__} ({binding})")
        sys.exit(0)


def _parse_mode(text: str) -> Mode:
    try:
        return Mode("x" if text == "w-" else text)
    except ValueError:
        raise UsageError(f"--mode {text}: must be one of r, r+, a, w, x (or w-)") from None


def _log_target(text: str | None) -> str | None:
    # The daemon works elsewhere, where a relative path would mean another file.
    return text if text in (None, "syslog") else os.path.abspath(text)


def _log_level(given: argparse.Namespace) -> str:
    if given.debug:
        return "DEBUG"
    return "INFO" if given.verbose else "WARNING"


def _parse_unmount(words: Sequence[str]) -> Path:
    parser = argparse.ArgumentParser(
        prog="h5fs umount", description="Unmount, and wait until the daemon is gone."
    )
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", type=Path)
    return Path(parser.parse_args(words).mountpoint)

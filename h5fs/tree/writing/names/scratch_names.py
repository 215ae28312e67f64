"""What programs make on the way to another file. Pure.

Editors and copy tools write to a name of their own and rename then. Such files live outside of the
HDF5 file until they get a name that has a projection. What a person would type is none of them: a
file that the HDF5 file cannot hold is refused, not taken and left out.
"""

from __future__ import annotations

import os
import re

# What is known, from the sources of the programs. Any name: hidden ones (rsync .x.npy.Ab3dEf, vim
# .x.swp, Emacs .#x, GNOME .goutputstream-..., libfuse .fuse_hidden..., NFS .nfs...), x~ (vim,
# Emacs, cp --backup), #x# (Emacs), perl -i (XX...), x.tmp, tmp... (Python, mktemp), and half a
# download. After the name of a file that the HDF5 file can hold, P: GNU patch (P.oAb3dEf, P.orig,
# P.rej), nano (P.save), boto3 (P.fde07ce8), npm (P.1234567890), Go's CreateTemp (P1234567890),
# PyCharm (P___jb_tmp___), gsutil (P_.gstmp), KDE and GNOME (P.Ab3dEf), lock files.
_SCRATCH = re.compile(
    rb"""
    \..+
    | .*~ (\d+~)?
    | \#.*\#
    | (sed|XX|tmp) (?=.*[0-9A-Z]) [0-9A-Za-z_]{6}
    | tmp ([._\-0-9] .*)?
    | tmp [0-9a-z_]{8} (\..*)?
    | .*\.(tmp|part|partial|filepart|crdownload|opdownload|swp|swx|swo)
    | .*\.tmp ([.\-_]?\d+ | [.\-_][0-9A-Za-z]{4,})
    | .*_\.gstmp
    | .+\.(npy|attrs\.json|dtype\.json) (
        \.(temp|download|lock|new\.tmp|orig|rej|save|aria2)
        | \.(?=.*[A-Fa-f]) [0-9A-Fa-f]{8}
        | \.? (?!(19|20)\d{6}\Z) \d{7,10}
        | \.o [0-9A-Za-z]{6}
        | \.(?=.*[0-9A-Z]) [0-9A-Za-z]{6}
        | ___jb_(tmp|old|bak)___
      )
    """,
    re.VERBOSE | re.DOTALL,
)
_BESIDE_A_FILE = re.compile(rb".*\.(npy|attrs\.json|dtype\.json).+", re.DOTALL)
# vim looks whether a folder can be written to with 4913, 5036, 5159, ...
_VIM_FIRST, _VIM_STEP, _VIM_DIGITS = 4913, 123, 4
_FORCED_LINK = re.compile(rb"Cu[0-9A-Za-z]{6}")  # ln -f


def is_scratch_name(name: bytes) -> bool:
    """Whether a dentry name that has no projection for files may be a scratch file's."""
    return _SCRATCH.fullmatch(name) is not None or _is_vim_probe(name)


def is_scratch_link_name(name: bytes) -> bool:
    """Whether a link that is made with this name is outside of the HDF5 file until renamed."""
    return is_scratch_name(name) or _FORCED_LINK.fullmatch(name) is not None


def is_dot_name(name: bytes) -> bool:
    """Whether a name begins with a dot: as a folder's ``.Trash-0`` or ``.git``."""
    return name.startswith(b".")


def is_made_by_mkstemp(name: bytes, flags: int, mode: int) -> bool:
    """Whether a file that is created so is a temporary one, whatever its name: as mkstemp(3) does.

    Those that are named after a file that the HDF5 file can hold may have that one's mode.
    """
    is_exclusive = bool(flags & os.O_EXCL) and flags & os.O_ACCMODE == os.O_RDWR
    return is_exclusive and (mode & 0o777 == 0o600 or _BESIDE_A_FILE.fullmatch(name) is not None)


def is_placeholder(flags: int, mode: int) -> bool:
    """Whether a file is made as GNU tar does where a symbolic link will be: for nobody to open."""
    return bool(flags & os.O_EXCL) and mode & 0o777 == 0


def _is_vim_probe(name: bytes) -> bool:
    if len(name) != _VIM_DIGITS or not name.isdigit():
        return False
    return int(name) >= _VIM_FIRST and (int(name) - _VIM_FIRST) % _VIM_STEP == 0

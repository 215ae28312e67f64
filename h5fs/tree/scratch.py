"""Names of files that programs make on the way to another one. Pure.

Editors and copy tools write to a name of their own and rename then. Such files live outside of the
HDF5 file until they get a name that has a projection.
"""

from __future__ import annotations

import re

# What is known, from the sources of the programs: rsync (.x.npy.Ab3dEf), sed -i (sedQx81Zt), vim
# (.x.swp, .x.swpx, 4913, x~), Emacs (#x#, .#x, x~), mktemp and Python (tmp...), GNOME
# (.goutputstream-...), libfuse (.fuse_hidden...), NFS (.nfs...), perl -i and sed -i.bak (x.bak,
# x.orig), curl, wget, browsers and download tools (x.part, x.crdownload), atomic writers (x.tmp,
# x.tmp.1234, x.new, x.lock).
_SCRATCH = re.compile(
    rb"""
    \..+                                            # hidden
    | .*~ (\d+~)?
    | \#.*\#
    | sed[0-9A-Za-z]{6}
    | \d+                                           # vim probes with 4913 and on
    | (tmp|temp|TMP).*
    | XX[0-9A-Za-z_]{6,}                              # perl -i
    | .*\.(tmp|temp|swp|swx|swo|bak|orig|part|partial|filepart|crdownload|download|new|old|lock
           |rej|save)
    | .*[.](tmp|temp|bak|part)[.\-_]?[0-9A-Za-z]+
    | .*[.\-_][0-9A-Za-z]{6}                        # mkstemp with a prefix
    | Cu[0-9A-Za-z]{6}                              # ln -f
    """,
    re.VERBOSE | re.DOTALL,
)


def is_scratch_name(name: bytes) -> bool:
    """Whether a dentry name that has no projection for files may be a scratch file's."""
    return _SCRATCH.fullmatch(name) is not None

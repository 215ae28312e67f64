"""How h5fs starts Python again, so that no code comes from the folder that it is started in.

``python -m`` and ``python -c`` look for modules in the working directory first, and a script in its
own folder: a ``select.py`` that lies there would run in the daemon. ``-P`` is there since Python
3.11 only; ``-I`` also ignores PYTHONPATH, which may be what finds h5fs. So the way to the modules
is handed over, without those folders.

This module and the package itself import only modules that every Python process has loaded at its
start, so that nothing is searched for.
"""

import os
import sys

_START = (
    "import sys; count = int(sys.argv[1]); sys.path[:] = sys.argv[2 : 2 + count]; "
    "del sys.argv[1 : 2 + count]; from {module} import main; sys.exit(main())"
)
_PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_HOME = os.path.dirname(_PACKAGE)  # where h5fs itself is found


def isolated_command(module: str, *words: str) -> list[str]:
    """Return a command that runs ``main()`` of a module of h5fs, with ``words`` as arguments."""
    paths = import_paths()
    flags = ["-B"] if sys.dont_write_bytecode else []
    if sys.flags.utf8_mode:
        flags += ["-X", "utf8"]
    start = _START.format(module=module)
    return [sys.executable, "-I", *flags, "-c", start, str(len(paths)), *paths, *words]


def import_paths() -> list[str]:
    """Return where this process finds modules, but for the working directory and the script's.

    Folders that PYTHONPATH names, or that an installation has added (``pip install -e``), stay.
    """
    standard = os.path.dirname(os.__file__)
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # What Python puts first by itself, and an empty word in PYTHONPATH, stand before its own
    # library; what is installed stands after it.
    own = sys.path.index(standard) if standard in sys.path else len(sys.path)
    found = [
        path
        for place, path in enumerate(sys.path)
        if os.path.isabs(path) and (place >= own or path in named or not _is_around(path))
    ]
    if _HOME not in map(os.path.realpath, found):
        installed = (i for i, path in enumerate(found) if path.endswith("-packages"))
        found.insert(next(installed, len(found)), _HOME)
    return list(dict.fromkeys(found))


def leave_working_directory_out() -> None:
    """Let this process find modules as ``import_paths`` says."""
    sys.path[:] = import_paths()


def _is_around(path: str) -> bool:
    """Whether a path is the working directory, or the folder of the script that runs."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    around = [os.curdir] if script is None else [os.curdir, os.path.dirname(script) or os.curdir]
    for folder in around:
        try:
            if os.path.samefile(path, folder):
                return True
        except OSError:  # one of the two folders is gone
            continue
    return False

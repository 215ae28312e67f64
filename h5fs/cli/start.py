"""Where the ``h5fs`` command begins: what takes longest is started before anything else.

The process that starts workers imports the HDF5 library while the command imports what it needs
itself. It is forked, so that what both need is imported once.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False  # not typing's: `h5fs --version` needs none of it
if TYPE_CHECKING:
    from typing import NoReturn

    from h5fs.store.workers.starting.worker_starter import WorkerStarter

_WITH_WORKERS = ("attr", "cat", "cp", "tree")


def run() -> NoReturn:
    """Run the command and end the process with its exit status.

    Not as Python ends: to take apart what was imported takes 12 ms, and frees what the end of the
    process frees. Everything is closed and flushed by then.
    """
    status = main()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:
                status = status or 1
    os._exit(status)


def main() -> int:
    """Run the command that the program was called with; return its exit status."""
    # Nothing of h5fs multiplies matrices, and each thread of OpenBLAS spins for 30 ms at its start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What is imported lasts: to look through it again and again takes a tenth of a short command.
    gc.disable()
    starter = None
    try:
        starter = _start(sys.argv[1:])
        from h5fs.cli.main import main as run

        gc.freeze()
        gc.enable()
        return run(starter=starter)
    except KeyboardInterrupt:  # before the command was there to end quietly itself
        return 130
    finally:
        gc.freeze()  # nor at the end
        if starter is not None:
            starter.close()


def _start(words: list[str]) -> WorkerStarter | None:
    """Start the process that starts workers, if the command seems to need it.

    None also where a URL may have a password, which must go from the process list first, and where
    a standard stream is closed, whose number the next descriptor would get.
    """
    is_closed = None in (sys.stdin, sys.stdout, sys.stderr)
    if is_closed or words[:1] not in ([word] for word in _WITH_WORKERS) or len(words) == 1:
        return None
    if any("://" in word or word in ("-h", "--help") for word in words):
        return None
    import h5fs.store.workers.messages  # noqa: F401  (what takes long, and both processes need)
    from h5fs.store.workers.starting.forked_starter import ForkedStarter

    gc.freeze()
    starter = ForkedStarter()
    starter.start()
    return starter

"""What is done with a log that was found: bring the main file to its state, or tell about it.

Owns nothing; both descriptors are the caller's. Not thread-safe.
"""

from __future__ import annotations

from dataclasses import dataclass

from h5fs.errors import LogMismatchError
from h5fs.store.log.log_reader import check_main, read_headless, read_log
from h5fs.store.log.log_rest import NO_REST, LogRest
from h5fs.store.log.logged_file import LoggedFile
from h5fs.store.log.system_calls import SystemCalls


@dataclass(frozen=True, slots=True)
class LogDescription:
    """What is in a log.

    ``commits``: how many count; ``durable_commits``: how many of them were waited for, so that they
    survive a power cut; ``lost_commits``: how many that do not count, since another kernel has
    booted since. ``length``: the file's, in bytes. ``pages``, of ``page_bytes`` each: how many a
    checkpoint would write. ``mismatch``: why the log is not the main file's; empty where it is.
    ``rest``: what follows the last commit.
    """

    commits: int = 0
    durable_commits: int = 0
    lost_commits: int = 0
    length: int = 0
    pages: int = 0
    page_bytes: int = 0
    mismatch: str = ""
    rest: LogRest = NO_REST


def recover(main: SystemCalls, log: SystemCalls, boot_id: bytes) -> bool:
    """Bring the main file to the last commit that counts, and empty the log.

    Returns False when the log was empty. May be cut off at any moment, and called again. Raises
    ``OSError``, ``LogMismatchError``.
    """
    if not log.size():
        return False
    file = LoggedFile(main, log, boot_id=boot_id)
    file.open()
    file.checkpoint()
    return True


def describe_log(main: SystemCalls, log: SystemCalls, boot_id: bytes) -> LogDescription:
    """Return what is in a log, which may be another file's; changes nothing. Raises ``OSError``."""
    try:
        contents = read_log(log, boot_id)
    except LogMismatchError as error:
        return LogDescription(mismatch=str(error))
    if contents is None:
        return LogDescription(length=main.size(), rest=read_headless(log, boot_id))
    mismatch = ""
    try:
        check_main(main, log, contents)
    except LogMismatchError as error:
        mismatch = str(error)
    return LogDescription(
        commits=contents.counted,
        durable_commits=sum(c.head.is_durable for c in contents.commits[: contents.counted]),
        lost_commits=len(contents.commits) - contents.counted,
        length=contents.length,
        pages=contents.index_pages().page_count,
        page_bytes=contents.header.page_bytes,
        mismatch=mismatch,
        rest=contents.rest,
    )

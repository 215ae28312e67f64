"""Repeats changes whose worker was killed from outside, or failed because of what it had cached.

A change is done as a whole or not at all, but a killed worker cannot say which. Data may be written
again. Where the worker may have committed it, a link that was to be made and exists, or was to be
removed and is gone, was changed before the worker died.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from h5fs.errors import (
    ChangeFailedError,
    ExistsError,
    H5fsError,
    KilledChangeError,
    NotFoundError,
)

_log = logging.getLogger(__name__)

_KILLS_ALLOWED = 20

_SAYS_DONE: Final[dict[str, type[H5fsError]]] = {
    "create_group": ExistsError,
    "create_datatype": ExistsError,
    "create_link": ExistsError,
    "delete_link": NotFoundError,
    "move_link": NotFoundError,
}


def ask_until_answered(
    method: str,
    what: object,
    ask: Callable[[], Any],
    *,
    may_be_done: bool = False,
    has_committed: Callable[[], bool] = lambda: True,
) -> Any:
    """Return a worker's answer; None for a change that a worker did before it was killed.

    ``str(what)`` names the change in the log. ``may_be_done``: a worker that was asked before this
    call has perhaps done it. ``has_committed()`` is asked after a kill: False where it is known
    that the worker had not. Raises what ``ask`` raises.
    """
    kills, failures = 0, 0
    while True:
        try:
            return ask()
        except ChangeFailedError as error:
            # What the library has cached of removed objects can be in the way of new ones. The next
            # worker begins at the last commit, with nothing cached.
            failures += 1
            if failures > 1:
                raise
            _log.info("%s of %s once more: %s", method, what, error)
        except KilledChangeError as error:
            kills += 1
            may_be_done = may_be_done or has_committed()
            if kills >= _KILLS_ALLOWED:
                raise
            _log.info("%s of %s once more: %s", method, what, error)
        except H5fsError as error:
            if may_be_done and isinstance(error, _SAYS_DONE.get(method, ())):
                return None
            raise

"""The last warnings of this process, kept for ``h5fs status`` and for whoever unmounts."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass

_MOST_KEPT = 20
_MOST_CHARACTERS = 2000  # of one message
_GAP = " ... "


@dataclass(frozen=True, slots=True)
class Message:
    """A line of the log; ``time_seconds`` since 1970."""

    time_seconds: float
    text: str


class RecentMessages(logging.Handler):
    """Keeps the last warnings and errors that were logged. Any thread may log and ask."""

    def __init__(self, most: int = _MOST_KEPT) -> None:
        super().__init__(logging.WARNING)
        self._kept: deque[Message] = deque(maxlen=most)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message. Raises nothing: ``logging`` calls it wherever something is logged."""
        try:
            text = " ".join(record.getMessage().split())
        except Exception:  # a message that cannot be formatted; `logging` says so by the log itself
            self.handleError(record)
            return
        if len(text) > _MOST_CHARACTERS:
            # What is at fault is named at the beginning, and where it was saved at the end.
            half = (_MOST_CHARACTERS - len(_GAP)) // 2
            text = text[:half] + _GAP + text[-half:]
        self._kept.append(Message(record.created, text))

    def messages(self) -> list[Message]:
        """Return what was logged, the oldest first."""
        return list(self._kept)


def keep_recent_messages(most: int = _MOST_KEPT) -> RecentMessages:
    """Begin to keep what this process logs."""
    kept = RecentMessages(most)
    logging.getLogger().addHandler(kept)
    return kept

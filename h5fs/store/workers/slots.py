"""Slots of a pool: rooms for one worker each, and which of them is to have a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from h5fs.store.workers.connection import WorkerConnection


@dataclass(eq=False, slots=True)
class Slot:
    """Room for one worker; ``connection`` is None while it has no worker."""

    number: int
    connection: WorkerConnection | None = None
    is_busy: bool = False


def find_idle(
    slots: Sequence[Slot], count: int, preferred_worker: int | None, *, preferred_only: bool
) -> Slot | None:
    """Return an idle slot, if possible that of the preferred worker; None where there is none.

    None also where the preferred worker is not started yet, and, with ``preferred_only``, where it
    is busy. ``preferred_worker`` counts modulo ``count``, the usual number of workers.
    """
    if preferred_worker is not None:
        wanted = preferred_worker % count
        if wanted >= len(slots):
            return None  # the preferred worker is yet to be started
        if preferred_only or not slots[wanted].is_busy:
            return None if slots[wanted].is_busy else slots[wanted]
    for slot in slots:
        if not slot.is_busy:
            return slot
    return None

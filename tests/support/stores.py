"""Stores whose workers come from one worker starter, that of the test process.

A store with a starter of its own costs 0.4 s of computing more, nearly all of it imports of another
Python; a mount of a folder, too, has one starter for all its files.
"""

from __future__ import annotations

import atexit

from h5fs import store
from h5fs.model.settings import StoreOptions
from h5fs.store.interface import Store
from h5fs.store.workers.starting.worker_starter import WorkerStarter

STARTER = WorkerStarter()
atexit.register(STARTER.close)


def open_store(options: StoreOptions) -> Store:
    """Open a file as ``h5fs.store.open_store`` does, with workers of the shared starter."""
    return store.open_store(options, STARTER)

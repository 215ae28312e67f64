"""What a daemon imports at its start, and commands when they need it.

A mount may outlive the installation that it was started from: what is imported later may then be of
another version, or gone.
"""

from __future__ import annotations

from importlib import import_module

_NAMES = (
    "hashlib",
    "tempfile",
    "h5fs.projection.json.attribute_file",
    "h5fs.projection.json.datatype_documents",
    "h5fs.projection.views.columns",
    "h5fs.projection.views.texts",
    "h5fs.store.chunks.reader",
    "h5fs.store.worker_stores.virtual_arrays",
    "h5fs.store.workers.starting.worker_setup",
    "h5fs.tree.contents.picture_content",
    "h5fs.tree.contents.table_content",
    "h5fs.tree.xattrs",
)


def import_late_modules() -> None:
    """Import them, while the worker starter imports what it needs itself."""
    for name in _NAMES:
        import_module(name)

"""What a daemon imports at its start, and commands when they need it.

A mount may outlive the installation that it was started from: what is imported later may then be of
another version, or gone.
"""

from __future__ import annotations

from importlib import import_module

from h5fs.model.settings import MountOptions, View

_NAMES = (
    "hashlib",
    "numpy.ma",  # numpy.unique asks for it
    "tempfile",
    "h5fs.projection.json.attribute_file",
    "h5fs.projection.json.datatype_documents",
    "h5fs.projection.views.columns",
    "h5fs.projection.views.texts",
    "h5fs.store.chunks.reader",
    "h5fs.store.log.file_and_log",
    "h5fs.store.log.log_path",
    "h5fs.store.log.reading.snapshot_file",
    "h5fs.store.worker_stores.virtual_arrays",
    "h5fs.store.worker_stores.worker_store",
    "h5fs.store.workers.starting.worker_setup",
    "h5fs.tree.contents.picture_content",
    "h5fs.tree.contents.table_content",
    "h5fs.tree.versions.local_version",
    "h5fs.tree.xattrs",
)
_OF_OBJECTS = (
    "h5fs.store.worker_stores.remote_store",
    "h5fs.tree.versions.remote_version",
)
"""What opens the files of a prefix of an object store, when somebody looks into one."""
_OF_DRAWING = (
    "PIL.Image", "PIL.ImageDraw", "PIL.ImageFile", "PIL.ImageFont", "PIL.ImageText",
)  # fmt: skip


def import_late_modules(options: MountOptions) -> None:
    """Import them, while the worker starter imports what it needs itself."""
    url = options.store.url
    for name in (*_NAMES, *(_OF_OBJECTS if url is not None and url.is_folder else ())):
        import_module(name)


def late_modules_of_workers(options: MountOptions) -> tuple[str, ...]:
    """Return what the worker starter imports for this mount beyond what every mount needs. Not all
    of it is in each installation."""
    return _OF_DRAWING if View.PICTURE in options.views.kinds else ()

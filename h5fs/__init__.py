"""h5fs mounts an HDF5 file as a directory tree.

Groups are folders, datasets are virtual ``.npy`` files, attributes are ``.attrs.json`` files.
``h5fs.mount`` does so for as long as a ``with`` block runs, or until it is told to end.
"""

TYPE_CHECKING = False  # not typing's: nothing is imported here, see `interpreter`
if TYPE_CHECKING:
    from h5fs.api import Mount, mount
    from h5fs.errors import MountError

__all__ = ["Mount", "MountError", "__version__", "mount"]

__version__ = "0.2.0"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# A type checker would take a function of this name for leave to ask for any name at all.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import what programs use when it is first used: the daemon and its workers never do."""
        if name == "MountError":
            from h5fs.errors import MountError

            return MountError
        if name in ("Mount", "mount"):
            from h5fs import api

            return getattr(api, name)
        raise AttributeError(f"module 'h5fs' has no attribute {name!r}")

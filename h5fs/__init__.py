"""h5fs mounts an HDF5 file as a directory tree.

Groups are folders, datasets are virtual ``.npy`` files, attributes are ``.attrs.json`` files.
``h5fs.mount`` does so for as long as a ``with`` block runs.
"""

TYPE_CHECKING = False  # not typing's: nothing is imported here, see `interpreter`
if TYPE_CHECKING:
    from h5fs.api import mount

__all__ = ["__version__", "mount"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import ``mount`` when it is first used: the daemon and its workers never use it."""
    if name == "mount":
        from h5fs.api import mount

        return mount
    raise AttributeError(name)

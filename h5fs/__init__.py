"""h5fs mounts an HDF5 file as a directory tree.

Groups are folders, datasets are virtual ``.npy`` files, attributes are ``.attrs.json`` files.
"""

__version__ = "0.1.0"

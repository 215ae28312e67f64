"""Locks on HDF5 files: h5fs's own, who holds one, and waiting for one that is about to go."""

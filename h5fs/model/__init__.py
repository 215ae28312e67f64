"""Plain values that every room may hold: objects, datatypes, links, settings.

Frozen values and pure functions over them; no I/O, no locks, no h5py.
"""

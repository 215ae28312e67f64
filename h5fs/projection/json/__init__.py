"""Attributes and datatypes as JSON, to the bit, and back. Pure: no I/O, no h5py."""

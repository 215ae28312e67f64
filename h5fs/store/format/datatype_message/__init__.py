"""Datatype messages of the HDF5 file format, to plain values and back. Pure."""

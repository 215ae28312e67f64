"""The daemon's end of the processes that the HDF5 library runs in.

A hostile file can harm only those processes.
"""

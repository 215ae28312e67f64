"""Stores whose HDF5 library runs in worker processes: to read, to write, over a network."""

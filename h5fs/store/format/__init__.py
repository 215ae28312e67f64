"""The HDF5 file format without the HDF5 library.

Reads bytes of the file, imports no h5py, and says that it does not know rather than guess.
"""

"""Folders and prefixes of HDF5 files, and of domains, as one tree."""

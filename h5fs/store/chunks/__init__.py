"""Chunked arrays without the HDF5 library."""

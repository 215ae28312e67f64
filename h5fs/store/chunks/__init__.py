"""Chunked arrays without the HDF5 library: geometry, filters, decoded blocks, reading.

Imports no h5py. ``filters``, ``shuffle``, ``geometry`` and ``scatter`` are pure and run in the
workers; ``block_cache``, ``streams`` and ``reader`` run in the daemon, on any thread.
"""

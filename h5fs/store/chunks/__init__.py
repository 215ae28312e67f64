"""Chunked arrays without the HDF5 library: geometry, filters, decoded blocks, reading.

Imports no h5py. ``filters``, ``shuffle``, ``geometry``, ``scatter`` and ``band_files`` are
pure; ``destinations`` runs in the workers, ``block_cache``, ``streams`` and ``reader`` in the
daemon, on any thread.
"""

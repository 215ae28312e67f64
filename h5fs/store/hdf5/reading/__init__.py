"""Datasets as they are read: headers, chunks, elements, through h5py."""

"""Datasets as they are made, written and replaced, through h5py."""

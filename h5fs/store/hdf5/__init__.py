"""The HDF5 library's side of the store: the only package that imports h5py."""

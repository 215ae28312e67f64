"""HDF5 datatypes and elements in memory, through h5py and the library below it."""

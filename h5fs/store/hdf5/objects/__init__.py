"""What is in an HDF5 file: files, links, attributes, references, through h5py."""

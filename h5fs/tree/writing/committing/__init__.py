"""How drafts become objects of the HDF5 file, by one step of the store each."""

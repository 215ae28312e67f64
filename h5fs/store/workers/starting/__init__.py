"""How worker processes are started: by a process that has imported the HDF5 library already."""

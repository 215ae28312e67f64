"""The processes that the HDF5 library runs in, so that a hostile file meets no more than them."""

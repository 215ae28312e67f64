"""Pure translation between HDF5 and POSIX: names, npy headers, byte ranges, JSON.

No I/O, no locks, no h5py. Results depend on nothing but the arguments.
"""

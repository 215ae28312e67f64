"""A domain of a data service (HSDS) as a store, over its REST interface.

No HDF5 library, no worker, no file: JSON and bytes, which are checked before they are believed.
"""

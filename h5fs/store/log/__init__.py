"""The redo log: no committed byte of an HDF5 file changes but from a log that can be replayed.

Works on open descriptors, knows nothing of HDF5 and imports no h5py.

- `logged_file`: the file object for h5py; commits, checkpoints
- `changing_file`: where a write goes; `page_layers`: what a read sees
- `log_writer`, `log_reader`, `format`, `runs`: the log itself; `log_rest`: what follows its chain
- `main_witness`: whether another program has written to the main file
- `snapshot_file`: the file as of a commit, read beside the writer; `gate`: not during a checkpoint
- `recovery`: what is done with a log that was found
- `system_calls`: all that touches a descriptor
"""

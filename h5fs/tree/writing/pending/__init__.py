"""What programs have written and the HDF5 file does not have yet. Pure, but for drafts."""

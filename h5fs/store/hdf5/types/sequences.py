"""Which types are variable-length sequences: datasets of them are two files in the mount."""

from __future__ import annotations

from h5py import h5t


def is_sequence_type(type_id: h5t.TypeID) -> bool:
    """Whether elements of a type are variable-length sequences, or arrays of them."""
    while isinstance(type_id, h5t.TypeArrayID):
        type_id = type_id.get_super()
    return isinstance(type_id, h5t.TypeVlenID)

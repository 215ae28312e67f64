"""Filters that a new dataset takes over from the one that it replaces.

A dataset has the options that a filter was given as the filter has completed them: by the dataset's
type and chunk shape, before them or in their place. Given again as they are stored, some mean
something else (bitshuffle), or the type and shape of before (zfp, which then stores something
else). So it is tried out, in memory, what each filter makes of them. Under the store's lock.
"""

from __future__ import annotations

import functools
import logging
from typing import Final

from h5py import h5d, h5f, h5p, h5s, h5t, h5z

from h5fs.errors import H5fsError
from h5fs.store.chunks.decodable import BITSHUFFLE, BLOSC, LZ4, LZF, SZIP, ZSTD
from h5fs.store.hdf5.library_errors import reading

_log = logging.getLogger(__name__)

_BZIP2, _BLOSC2 = 307, 32026

_OF_ANY_TYPE: Final = frozenset(
    {
        h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE, h5z.FILTER_FLETCHER32, SZIP, LZF, LZ4, ZSTD,
        BLOSC, _BLOSC2, _BZIP2, BITSHUFFLE,
    }
)  # fmt: skip
"""Filters that give back all bytes of any type that they take, whatever their options."""

_OF_ANY_CHUNK: Final = frozenset({*_OF_ANY_TYPE, h5z.FILTER_NBIT, h5z.FILTER_SCALEOFFSET})
_SCALE_OFFSET_OPTIONS: Final = 20  # as many as the library has made of the two that were given
_AUTOMATIC_BITS: Final = (h5z.SO_INT, 0)
_SZIP_BYTES: Final = (1, 2, 4, 8)  # it changes floats of 3 bytes
_VERSION_OPTIONS: Final = 2  # many filters begin their options with two numbers of their version

_Step = tuple[int, int, tuple[int, ...]]
"""A filter's code, flags and options."""


def keep_filters(
    creation: h5p.PropDCID, old_id: h5d.DatasetID, type_id: h5t.TypeID, chunk: tuple[int, ...],
    *, loses_lossy: bool = False,
) -> None:  # fmt: skip
    """Let a new dataset, of that type and chunk shape, have those filters of ``old_id`` that store
    every array of the kind as they store the old one's; without those that may lose something if
    it ``loses_lossy``."""
    old, old_type = old_id.get_create_plist(), old_id.get_type()
    old_chunk, is_same_type = old.get_chunk(), old_type.equal(type_id)
    steps: list[_Step] = []
    for index in range(old.get_nfilters()):
        code, flags, stored, name = old.get_filter(index)
        if loses_lossy and not gives_back_all(old_type, code, stored):
            continue
        fits = chunk == old_chunk or code in _OF_ANY_CHUNK
        if not is_same_type:  # the library prepares no filter for what lies in its heaps
            fits &= code in _OF_ANY_TYPE and not _is_variable(type_id)
        kept = _given(old_type, old_chunk, (code, flags, stored)) if fits else None
        if kept is None or _stored(type_id, chunk, (*steps, kept)) is None:
            _log.warning(
                "filter %d (%s) is left out where an array of another type or chunk shape is "
                "written over one that has it", code, name.decode("utf-8", "replace"),
            )  # fmt: skip
        else:
            steps.append(kept)
    for step in steps:
        creation.set_filter(*step)


def gives_back_all(type_id: h5t.TypeID, code: int, options: tuple[int, ...]) -> bool:
    """Whether a filter, as a dataset of a type has it, gives back every array of that type."""
    is_number = isinstance(type_id, h5t.TypeIntegerID | h5t.TypeFloatID)
    if code == h5z.FILTER_SCALEOFFSET:  # of other types it does nothing
        is_set = len(options) == _SCALE_OFFSET_OPTIONS and options[:2] != _AUTOMATIC_BITS
        return not (is_number and is_set)
    if code == h5z.FILTER_NBIT:  # which loses booleans in compounds, or not, as it comes
        has_parts = isinstance(type_id, h5t.TypeCompoundID | h5t.TypeArrayID)
        return not has_parts or _is_of_numbers(type_id)
    if code == SZIP:
        return type_id.get_size() in _SZIP_BYTES
    return code in _OF_ANY_TYPE


def _is_of_numbers(type_id: h5t.TypeID) -> bool:
    if isinstance(type_id, h5t.TypeCompoundID):
        members = range(type_id.get_nmembers())
        return all(_is_of_numbers(type_id.get_member_type(number)) for number in members)
    if isinstance(type_id, h5t.TypeArrayID):
        return _is_of_numbers(type_id.get_super())
    return isinstance(type_id, h5t.TypeIntegerID | h5t.TypeFloatID)


def _given(type_id: h5t.TypeID, chunk: tuple[int, ...], step: _Step) -> _Step | None:
    """Return a filter with the options that were given for what is stored; None for unknown."""
    code, flags, stored = step
    if code == h5z.FILTER_SCALEOFFSET:  # of the rest, much is the dataset's fill value
        return code, flags, stored[:2]
    for start in range(len(stored) + 1):
        made = _stored(type_id, chunk, ((code, flags, stored[start:]),))
        if made is None:
            continue
        options = made[-1][2]
        is_like = options[_VERSION_OPTIONS:] == stored[_VERSION_OPTIONS:]
        if len(options) == len(stored) and is_like:
            return code, flags, stored[start:]
    return None


def _is_variable(type_id: h5t.TypeID) -> bool:
    is_text = isinstance(type_id, h5t.TypeStringID)
    return bool(type_id.is_variable_str()) if is_text else isinstance(type_id, h5t.TypeVlenID)


def _stored(
    type_id: h5t.TypeID, chunk: tuple[int, ...], steps: tuple[_Step, ...]
) -> tuple[_Step, ...] | None:
    """Return filters as a dataset of that type has them; None where the library refuses them."""
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_chunk(chunk)
    for step in steps:
        creation.set_filter(*step)
    try:
        with reading("a dataset in memory"):
            made_id = h5d.create(scratch_file(), None, type_id, h5s.create_simple(chunk), creation)
            made = made_id.get_create_plist()
    except H5fsError:
        return None
    return tuple(made.get_filter(index)[:3] for index in range(made.get_nfilters()))


@functools.cache
def scratch_file() -> h5f.FileID:
    """Return a file in memory, for datasets that are made to try something out."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fapl_core(2**16, False)
    access.set_cache(0, 521, 0, 0.75)  # what is read has gone through the filters
    return h5f.create(b"h5fs", h5f.ACC_TRUNC, fapl=access)

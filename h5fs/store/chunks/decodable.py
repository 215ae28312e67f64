"""Which filters' chunks are decoded without the HDF5 library, said without loading a decoder."""

from __future__ import annotations

from typing import Final

from h5fs.model.objects import Filter

DEFLATE: Final = 1
SHUFFLE: Final = 2
FLETCHER32: Final = 3
SZIP: Final = 4
NBIT: Final = 5
SCALE_OFFSET: Final = 6
LZF: Final = 32000
BLOSC: Final = 32001
LZ4: Final = 32004
BITSHUFFLE: Final = 32008
ZSTD: Final = 32015


def can_decode(filters: tuple[Filter, ...], item_bytes: int) -> bool:
    """Whether a ``Pipeline`` can be made of these filters, given what is installed.

    ``item_bytes`` is the size of an element in the file. Options that the library finds wrong, or
    that it would not have written, are left to it.
    """
    compressors = 0
    for index, step in enumerate(filters):
        if step.code == SHUFFLE:
            if step.options != (item_bytes,):
                return False
        elif step.code != FLETCHER32 and not _is_idle_nbit(step):
            if step.code == DEFLATE:
                if len(step.options) != 1 or step.options[0] > 9:
                    return False
            elif step.code == SCALE_OFFSET:
                if index or not _is_of_integers(step, item_bytes):
                    return False
            elif not _is_installed(step.code):
                return False
            compressors += 1
    return compressors <= 1


def _is_idle_nbit(step: Filter) -> bool:
    """Whether a filter is n-bit for elements that have no bits to leave out."""
    options = step.options
    return step.code == NBIT and len(options) > 1 and options[:2] == (len(options), 1)


def _is_of_integers(step: Filter, item_bytes: int) -> bool:
    from h5fs.store.chunks import scale_offset

    return (
        scale_offset.IS_INSTALLED
        and scale_offset.read_packing(step.options, item_bytes) is not None
    )


def misleads_library(filters: tuple[Filter, ...]) -> bool:
    """Whether the library decodes wrongly what these filters have made, and h5fs can decode it.

    N-bit that does nothing returns the size of its buffer, which deflate and fletcher32 leave too
    large; it is the filter before n-bit, undone after it, that gets too many bytes.
    """
    codes = [step.code for step in filters]
    at = codes.index(NBIT) if NBIT in codes else 0
    return at > 0 and not {DEFLATE, FLETCHER32}.isdisjoint(codes[at:])


def _is_installed(code: int) -> bool:
    from h5fs.store.chunks.filters import DECOMPRESSORS  # loads what is installed

    return code in DECOMPRESSORS

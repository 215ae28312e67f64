"""The checksums of many metadata blocks at once: Bob Jenkins' lookup3, in lock-step.

Format: HDF5 File Format Specification 3.0, IV.A.1.b ("Checksum"); the algorithm is ``hashlittle``
of lookup3.c (public domain), with 0 as its initial value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

U4s = npt.NDArray[np.uint32]

_BLOCK_BYTES = 12
_MIXES = ((0, 2, 1, 4), (1, 0, 2, 6), (2, 1, 0, 8), (0, 2, 1, 16), (1, 0, 2, 19), (2, 1, 0, 4))
_FINALS = ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24))
_TAIL_MASKS = np.array(
    [
        [(1 << 8 * min(max(tail - 4 * word, 0), 4)) - 1 for word in range(3)]
        for tail in range(_BLOCK_BYTES + 1)
    ],
    np.uint32,
)


def checksum_blocks(
    data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], size: npt.NDArray[np.int64]
) -> U4s:
    """Return the checksum of each block ``data[at:at + size]``; sizes are positive.

    ``data`` must go on for 12 bytes after every block: they are loaded, and masked.
    """
    triples = np.ndarray((len(data) - _BLOCK_BYTES + 1,), "V12", buffer=data, strides=(1,))
    # Sorted, longest first: those that are not yet at their end always come before the others.
    order = np.argsort(-size, kind="stable")
    at, size = at[order], size[order]
    rounds = (size - 1) // _BLOCK_BYTES
    state = [(np.uint32(0xDEADBEEF) + size.astype(np.uint32)) for _ in range(3)]
    for number in range(int(rounds[0]) if rounds.size else 0):
        active = int(np.searchsorted(-rounds, -number))
        some = [part[:active] for part in state]
        _add(some, triples[at[:active] + _BLOCK_BYTES * number])
        _mix(some)
    tail = size - _BLOCK_BYTES * rounds
    _add(state, triples[at + _BLOCK_BYTES * rounds], _TAIL_MASKS[tail])
    _finish(state)
    sums = np.empty(len(order), np.uint32)
    sums[order] = state[2]
    return sums


def checksum(block: bytes | bytearray) -> bytes:
    """Return the checksum of one block as it is in a file."""
    data = np.frombuffer(bytes(block) + bytes(16), np.uint8)
    return checksum_blocks(data, np.array([0]), np.array([len(block)])).astype("<u4").tobytes()


def _add(state: list[U4s], triples: npt.NDArray[Any], masks: U4s | None = None) -> None:
    words = triples.view("<u4").reshape(-1, 3)
    if masks is not None:
        words = words & masks
    for number in range(3):
        state[number] += words[:, number]


def _mix(state: list[U4s]) -> None:
    for changed, other, third, bits in _MIXES:
        part = state[changed]
        part -= state[other]
        part ^= _rotate(state[other], bits)
        state[other] += state[third]


def _finish(state: list[U4s]) -> None:
    for changed, other, bits in _FINALS:
        part = state[changed]
        part ^= state[other]
        part -= _rotate(state[other], bits)


def _rotate(part: U4s, bits: int) -> U4s:
    return (part << np.uint32(bits)) | (part >> np.uint32(32 - bits))

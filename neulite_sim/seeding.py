"""All randomness of a run: independent streams keyed by (root seed, purpose, keys).

A stream is named by what it is for, so adding one never shifts another, and equal keys give equal numbers on
any backend, in any order and in any process. `SeedSequence(root, spawn_key=...)` keeps keys apart that a list of
integers would confuse: `default_rng([1])` and `default_rng([1, 0])` are the same stream.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray


def _sequence(root_seed: int, purpose: str, keys: tuple[int, ...]) -> np.random.SeedSequence:
    for key in keys:
        # SeedSequence cuts larger keys into words of 32 bits: 2**32 would be the same stream as the keys (0, 1).
        if not 0 <= key < 2**32:
            raise ValueError(f"key {key} of the stream {purpose!r} is outside 0 to {2**32 - 1}")
    return np.random.SeedSequence(root_seed, spawn_key=(zlib.crc32(purpose.encode()), *keys))


def stream(root_seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """Return the generator for one purpose, for example `stream(seed, "jitter", device, dispatch)`.

    The same arguments always give the same numbers.

    Raises:
        ValueError: a key outside [0, 2**32).
    """
    return np.random.Generator(np.random.PCG64(_sequence(root_seed, purpose, keys)))


def integer_seed(root_seed: int, purpose: str, *keys: int) -> int:
    """Return a seed in [0, 2**63) for libraries with generators of their own (PyTorch)."""
    high, low = _sequence(root_seed, purpose, keys).generate_state(2, np.uint32)
    return (int(high) << 32 | int(low)) >> 1


def words(root_seed: int, purpose: str, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the 64 random bits at each (row, column) of an endless table, uint64 of the shape of `rows`.

    Any entry can be asked for by itself, which a stream does not allow: a hash of the place takes the part of a
    generator's state (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011). The hash is the output
    function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, section 5), once for the row and once for both.
    """
    keys = _sequence(root_seed, purpose, ()).generate_state(2, np.uint64)
    mixed = _mixed(np.atleast_1d(rows).astype(np.uint64) * _GOLDEN + keys[:1])
    return _mixed(mixed ^ (np.atleast_1d(columns).astype(np.uint64) * _GOLDEN + keys[1:]))


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))

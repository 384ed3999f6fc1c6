"""All randomness of a run: independent streams keyed by (root seed, purpose, keys).

A stream is named by what it is for, so adding one never shifts another, and equal keys give equal numbers on
any backend, in any order and in any process. `SeedSequence(root, spawn_key=...)` keeps keys apart that a list of
integers would confuse: `default_rng([1])` and `default_rng([1, 0])` are the same stream.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_KEYS = 2**32


def _sequence(root_seed: int, purpose: str, keys: tuple[int, ...]) -> np.random.SeedSequence:
    for key in keys:
        # SeedSequence cuts larger keys into words of 32 bits: 2**32 would be the same stream as the keys (0, 1).
        if not 0 <= key < _KEYS:
            raise _refusal(purpose, key)
    return np.random.SeedSequence(root_seed, spawn_key=(zlib.crc32(purpose.encode()), *keys))


def _refusal(purpose: str, key: int) -> ValueError:
    return ValueError(f"key {key} of the stream {purpose!r} is outside 0 to {_KEYS - 1}")


def stream(root_seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """Return the generator for one purpose, for example `stream(seed, "jitter", device, dispatch)`.

    The same arguments always give the same numbers.

    Raises:
        ValueError: a key outside [0, 2**32).
    """
    return np.random.Generator(np.random.PCG64(_sequence(root_seed, purpose, keys)))


def streams(root_seed: int, purpose: str, *keys: NDArray[np.int64]) -> Iterator[np.random.Generator]:
    """Yield `stream(root_seed, purpose, k0[i], k1[i], ...)` for each i, with the very same numbers but far faster.

    It is one generator, set anew each time: draw from it before taking the next. What takes the time in `stream` is
    to mix the keys (NumPy's SeedSequence) and to seed PCG64, both fixed by NEP 19; here they are done for all i
    together. SeedSequence is the design of O'Neill, "Developing a seed_seq Alternative", 2015, PCG64 of O'Neill,
    "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms", HMC-CS-2014-0905, section 6.3.

    Raises:
        ValueError: a key outside [0, 2**32).
    """
    for column in keys:
        outside = column[(column < 0) | (column >= _KEYS)]
        if len(outside):
            raise _refusal(purpose, int(outside[0]))
    pool, constant = _mixed_pool(root_seed, purpose)
    for column in keys:
        pool, constant = _mixed_in(pool, column.astype(np.uint64), constant)
    bits = np.random.PCG64(0)
    generator = np.random.Generator(bits)
    for seeds in zip(*(column.tolist() for column in _generated(pool)), strict=True):
        state_high, state_low, increment_high, increment_low = seeds
        increment = (increment_high << 65 | increment_low << 1 | 1) & _WORD_128
        state = ((state_high << 64 | state_low) + increment) * _PCG_MULTIPLIER + increment & _WORD_128
        bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": increment},
            "has_uint32": 0,
            "uinteger": 0,
        }
        yield generator


_WORD, _WORD_128 = 2**32 - 1, 2**128 - 1
_PCG_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
Pool = list[NDArray[np.uint64]]
"""The four words of a SeedSequence; here each is a column of 32-bit words, held in 64 bits."""


def _mixed_pool(root_seed: int, purpose: str) -> tuple[Pool, int]:
    """Return the pool after the seed and the purpose, and the hash constant that follows."""
    pool = _sequence(root_seed, purpose, ()).pool
    # The constant is multiplied once for each word that is hashed: 4 at first, 12 between them, 4 for each further.
    seed_words = max(4, (root_seed.bit_length() + 31) // 32)
    hashed = 16 + 4 * (seed_words - 4) + 4
    return [np.array([word], np.uint64) for word in pool], 0x43B0D7E5 * pow(0x931E8875, hashed, _KEYS) & _WORD


def _mixed_in(pool: Pool, words: NDArray[np.uint64], constant: int) -> tuple[Pool, int]:
    """Return the pool with one more word mixed into each of its four, and the next hash constant."""
    found = []
    for word in pool:
        hashed = words ^ np.uint64(constant)
        constant = constant * 0x931E8875 & _WORD
        hashed = _folded(hashed * np.uint64(constant))
        found.append(_folded(np.uint64(0xCA01F9DD) * word - np.uint64(0x4973F715) * hashed))
    return found, constant


def _generated(pool: Pool) -> Pool:
    """Return the first four words of 64 bits that a SeedSequence with this pool generates."""
    constant, halves = 0x8B51F9DD, []
    for word in [*pool, *pool]:
        hashed = word ^ np.uint64(constant)
        constant = constant * 0x58F38DED & _WORD
        halves.append(_folded(hashed * np.uint64(constant)))
    return [high << np.uint64(32) | low for low, high in zip(halves[::2], halves[1::2], strict=True)]


def _folded(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = words & np.uint64(_WORD)
    return words ^ words >> np.uint64(16)


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

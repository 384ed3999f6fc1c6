"""All randomness of a run: independent streams keyed by (root seed, purpose, keys).

A stream is named by what it is for, so adding one never shifts another, and equal keys give equal numbers on
any backend, in any order and in any process. `SeedSequence(root, spawn_key=...)` keeps keys apart that a list of
integers would confuse: `default_rng([1])` and `default_rng([1, 0])` are the same stream.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

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


def brief_stream(root_seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """Return `stream(root_seed, purpose, *keys)`, with the very same numbers, in less than half the time.

    It is one generator per purpose and thread, set anew each time: draw from it before asking for the next, and in the
    thread that asked. See `streams`.

    Raises:
        ValueError: a key outside [0, 2**32).
    """
    return _OF_THREAD.reseeding(root_seed, purpose).at(keys)


def streams(root_seed: int, purpose: str, *keys: NDArray[np.int64]) -> Iterator[np.random.Generator]:
    """Yield `stream(root_seed, purpose, k0[i], k1[i], ...)` for each i, with the very same numbers but far faster.

    It is one generator, set anew each time: draw from it before taking the next. What takes the time in `stream` is
    to mix the keys (NumPy's SeedSequence) and to seed PCG64, both fixed by NEP 19; here they are done for all i
    together. SeedSequence is the design of O'Neill, "Developing a seed_seq Alternative", 2015, PCG64 of O'Neill,
    "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms", HMC-CS-2014-0905, section 6.3.

    Raises:
        ValueError: a key outside [0, 2**32).
    """
    bits = np.random.PCG64(0)
    generator = np.random.Generator(bits)
    for seeds in zip(*(column.tolist() for column in _seeds(root_seed, purpose, keys)), strict=True):
        _put(bits, *_seeded(*seeds))
        yield generator


def _put(bits: np.random.PCG64, state: int, increment: int) -> None:
    bits.state = _whole({"state": state, "inc": increment})


def _whole(state: dict[str, int]) -> Any:
    """Return what NumPy takes as the state of a PCG64."""
    return {"bit_generator": "PCG64", "state": state, "has_uint32": 0, "uinteger": 0}


def uniforms(root_seed: int, purpose: str, *keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what `random()` of each of `streams` draws first, in [0, 1), without a generator for each."""
    words = _first_words(_seeds(root_seed, purpose, keys)) >> np.uint64(11)
    return words.astype(np.float64) * 2.0**-53


def standard_normals(root_seed: int, purpose: str, *keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what `standard_normal()` of each of `streams` draws first, bit for bit, without a generator for each."""
    return _first_draws("standard_normal", root_seed, purpose, keys)


def standard_exponentials(root_seed: int, purpose: str, *keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what `standard_exponential()` of each of `streams` draws first, in the same way."""
    return _first_draws("standard_exponential", root_seed, purpose, keys)


def _first_draws(
    name: Distribution, root_seed: int, purpose: str, keys: tuple[NDArray[np.int64], ...]
) -> NDArray[np.float64]:
    if len(keys[0]) < _MANY:
        lists = [column.tolist() for column in keys]
        return np.array([getattr(brief_stream(root_seed, purpose, *each), name)() for each in zip(*lists, strict=True)])
    word = _first_words(_seeds(root_seed, purpose, keys))
    layers, steps, sign = _FORMS[name].split(word)
    tables = _ziggurat(name)
    drawn: NDArray[np.float64] = steps * tables.widths[layers]
    np.negative(drawn, out=drawn, where=sign)
    rest = np.flatnonzero(steps >= tables.safe[layers])
    generators = streams(root_seed, purpose, *(column[rest] for column in keys))
    drawn[rest] = [getattr(rng, name)() for rng in generators]
    return drawn


Distribution = Literal["standard_normal", "standard_exponential"]
_MANY = 32
"""From so many streams on it pays to work them out together."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How NumPy's ziggurat reads a word of 64 bits: where the layer is, the step within it, and the sign if it has."""

    step_shift: int
    layer_shift: int
    step_bits: int
    sign_shift: int | None

    def split(self, word: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.bool_]]:
        """Return layers, steps and whether the sign is negative."""
        layers = (word >> np.uint64(self.layer_shift) & np.uint64(255)).astype(np.intp)
        steps = word >> np.uint64(self.step_shift) & np.uint64(2**self.step_bits - 1)
        if self.sign_shift is None:
            return layers, steps, np.zeros(len(word), np.bool_)
        return layers, steps, (word >> np.uint64(self.sign_shift) & np.uint64(1)).astype(np.bool_)

    def word(self, layer: int, step: int) -> int:
        """Return a word with that layer and step, of positive sign."""
        return layer << self.layer_shift | step << self.step_shift


_FORMS: Mapping[Distribution, _Form] = {
    "standard_normal": _Form(step_shift=9, layer_shift=0, step_bits=52, sign_shift=8),
    "standard_exponential": _Form(step_shift=11, layer_shift=3, step_bits=53, sign_shift=None),
}


@dataclass(frozen=True, slots=True)
class _Ziggurat:
    """Of each layer the width of a step, and from which step on NumPy may need more than one word."""

    widths: NDArray[np.float64]
    safe: NDArray[np.uint64]


@functools.cache
def _ziggurat(name: Distribution) -> _Ziggurat:
    """Return the tables of NumPy's ziggurat (Marsaglia and Tsang, Journal of Statistical Software 5(8), 2000).

    They are asked of NumPy itself, by draws from generators whose next word is known. A step is safe up to the width
    of the next layer, less a billionth for rounding; each bound is tried, and where NumPy does not agree none is safe.
    """
    form = _FORMS[name]
    one = 2 ** (form.step_bits - 20)
    widths = np.array([(_drawn(name, form.word(layer, one)) or 0.0) / one for layer in range(256)])
    known = np.append(widths[-1:], widths)
    shares = np.divide(known[:-1], widths, out=np.zeros(256), where=widths > 0)
    safe = (np.minimum(shares, 1.0) * (1 - 1e-9) * 2**form.step_bits).astype(np.uint64)
    tried = [step and _drawn(name, form.word(layer, step - 1)) is not None for layer, step in enumerate(safe.tolist())]
    return _Ziggurat(widths=widths, safe=np.where(tried, safe, np.uint64(0)))


def _drawn(name: Distribution, word: int) -> float | None:
    """Return what NumPy draws where the next word is `word`; None where it needs further ones."""
    bits = np.random.PCG64(0)
    # With a high half of 0 the output is the low half, and the state before is found by going back one step.
    before = (word - 1) * pow(_PCG_MULTIPLIER, -1, 2**128) & _WORD_128
    _put(bits, before, 1)
    drawn = float(getattr(np.random.Generator(bits), name)())
    return drawn if bits.state["state"]["state"] == word else None


def _seeds(root_seed: int, purpose: str, keys: tuple[NDArray[np.int64], ...]) -> Pool:
    """Return the four words of 64 bits from which each stream's PCG64 is seeded."""
    for column in keys:
        outside = column[(column < 0) | (column >= _KEYS)]
        if len(outside):
            raise _refusal(purpose, int(outside[0]))
    pool, constant = _mixed_pool(root_seed, purpose)
    for column in keys:
        pool, constant = _mixed_in(pool, column.astype(np.uint64), constant)
    return _generated(pool)


def _first_words(seeds: Pool) -> NDArray[np.uint64]:
    """Return the first 64 bits of the PCG64 of each stream (XSL-RR: O'Neill 2014, section 6.3.3)."""
    state_high, state_low, increment_high, increment_low = seeds
    one = np.uint64(1)
    high = increment_high << one | increment_low >> np.uint64(63)
    low = increment_low << one | one
    # Seeding adds the state to the increment and steps once; the first draw steps once more.
    added = _sum_128(state_high, state_low, high, low)
    for _ in range(2):
        added = _sum_128(*_product_128(*added), high, low)
    word: NDArray[np.uint64] = added[0] ^ added[1]
    turn: NDArray[np.uint64] = added[0] >> np.uint64(58)
    back: NDArray[np.uint64] = (np.uint64(64) - turn) & np.uint64(63)
    turned: NDArray[np.uint64] = (word >> turn) | (word << back)
    return turned


def _sum_128(
    high: NDArray[np.uint64], low: NDArray[np.uint64], other_high: NDArray[np.uint64], other_low: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    total = low + other_low
    carry = (total < low).astype(np.uint64)
    return high + other_high + carry, total


def _product_128(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the product with the multiplier of PCG64, modulo 2**128."""
    half, mask = np.uint64(32), np.uint64(_WORD)
    factor_high, factor_low = np.uint64(_PCG_MULTIPLIER >> 64), np.uint64(_PCG_MULTIPLIER & 2**64 - 1)
    low_0, low_1, factor_0, factor_1 = low & mask, low >> half, factor_low & mask, factor_low >> half
    middle = low_1 * factor_0 + (low_0 * factor_0 >> half)
    carried = low_0 * factor_1 + (middle & mask)
    carry = low_1 * factor_1 + (middle >> half) + (carried >> half)
    return high * factor_low + low * factor_high + carry, low * factor_low


class _Reseeding:
    """A generator that is set to one stream of a purpose after another; in plain numbers, which for one are quicker."""

    def __init__(self, root_seed: int, purpose: str) -> None:
        self._purpose = purpose
        pool, self._constant = _mixed_pool(root_seed, purpose)
        self._pool = [int(column[0]) for column in pool]
        # Of each key and word what it is xored with and multiplied by.
        self._hashes: list[list[tuple[int, int]]] = []
        self._outputs = _hash_constants(0x8B51F9DD, 0x58F38DED, 8)
        self._bits = np.random.PCG64(0)
        self._generator = np.random.Generator(self._bits)
        self._state = {"state": 0, "inc": 0}
        self._whole = _whole(self._state)
        # The pool after all keys but the last, which are often those of the stream before.
        self._begun: tuple[tuple[int, ...], list[int]] = (), self._pool

    def at(self, keys: tuple[int, ...]) -> np.random.Generator:
        """Return the generator, set to the stream of some keys."""
        while len(self._hashes) < len(keys):
            constants = _hash_constants(self._constant, 0x931E8875, 4)
            self._hashes.append(constants)
            self._constant = constants[-1][1]
        if keys[:-1] != self._begun[0]:
            self._begun = keys[:-1], self._mixed(self._pool, keys[:-1], 0)
        pool = self._mixed(self._begun[1], keys[-1:], len(keys) - 1)
        halves = []
        for word, (xored, times) in zip((*pool, *pool), self._outputs, strict=True):
            hashed = (word ^ xored) * times & _WORD
            halves.append(hashed ^ hashed >> 16)
        a, b, c, d, e, f, g, h = halves
        state = self._state
        state["state"], state["inc"] = _seeded(b << 32 | a, d << 32 | c, f << 32 | e, h << 32 | g)
        self._bits.state = self._whole
        return self._generator

    def _mixed(self, pool: list[int], keys: tuple[int, ...], first: int) -> list[int]:
        """Return a pool with some keys mixed in, of which the first is that of number `first`."""
        for key, constants in zip(keys, self._hashes[first:], strict=False):
            if not 0 <= key < _KEYS:
                raise _refusal(self._purpose, key)
            mixed = []
            for word, (xored, times) in zip(pool, constants, strict=True):
                hashed = (key ^ xored) * times & _WORD
                hashed = 0xCA01F9DD * word - 0x4973F715 * (hashed ^ hashed >> 16) & _WORD
                mixed.append(hashed ^ hashed >> 16)
            pool = mixed
        return pool


class _OfThread(threading.local):
    """The generators of a thread: between being set and being drawn from, another would set them for itself."""

    def __init__(self) -> None:
        self.reseeding = functools.lru_cache(maxsize=16)(_Reseeding)


_OF_THREAD = _OfThread()


@contextlib.contextmanager
def own_brief_streams() -> Iterator[None]:
    """Have other generators for the time inside, so that whoever calls this may have one that he is to draw from yet.

    A selector that begins a run of the same seed before it chooses is one. Also a decorator.
    """
    before, _OF_THREAD.reseeding = _OF_THREAD.reseeding, functools.lru_cache(maxsize=16)(_Reseeding)
    try:
        yield
    finally:
        _OF_THREAD.reseeding = before


def _hash_constants(constant: int, multiplier: int, count: int) -> list[tuple[int, int]]:
    """Return what SeedSequence xors and multiplies each of `count` words with, one after the other."""
    found = []
    for _ in range(count):
        following = constant * multiplier & _WORD
        found.append((constant, following))
        constant = following
    return found


def _seeded(state_high: int, state_low: int, increment_high: int, increment_low: int) -> tuple[int, int]:
    """Return state and increment of a PCG64 that is seeded with these words."""
    increment = (increment_high << 65 | increment_low << 1 | 1) & _WORD_128
    return ((state_high << 64 | state_low) + increment) * _PCG_MULTIPLIER + increment & _WORD_128, increment


_WORD, _WORD_128 = 2**32 - 1, 2**128 - 1
_PCG_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
Pool = list[NDArray[np.uint64]]
"""The four words of a SeedSequence; here each is a column of 32-bit words, held in 64 bits."""


@functools.lru_cache(maxsize=64)
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
    keys = _table_keys(root_seed, purpose)
    mixed = _mixed(np.atleast_1d(rows).astype(np.uint64) * _GOLDEN + keys[:1])
    return _mixed(mixed ^ (np.atleast_1d(columns).astype(np.uint64) * _GOLDEN + keys[1:]))


@functools.lru_cache(maxsize=16)
def _table_keys(root_seed: int, purpose: str) -> NDArray[np.uint64]:
    keys: NDArray[np.uint64] = _sequence(root_seed, purpose, ()).generate_state(2, np.uint64).astype(np.uint64)
    return keys


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))

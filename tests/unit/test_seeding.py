"""Streams of random numbers by purpose and key."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.seeding import (
    brief_stream,
    integer_seed,
    standard_exponentials,
    standard_normals,
    stream,
    streams,
    uniforms,
    words,
)


def test_equal_names_give_equal_numbers() -> None:
    first, again = stream(7, "jitter", 3, 5).random(100), stream(7, "jitter", 3, 5).random(100)
    np.testing.assert_array_equal(first, again)


def test_each_part_of_a_name_gives_another_stream() -> None:
    named = [(7, "jitter", 3, 5), (8, "jitter", 3, 5), (7, "link", 3, 5), (7, "jitter", 5, 3), (7, "jitter", 3, 5, 0)]
    draws = {tuple(stream(*name).integers(2**62, size=4)) for name in named}
    assert len(draws) == len(named)


def test_zero_keys_are_kept_apart() -> None:
    # `default_rng([1])` and `default_rng([1, 0])` are one stream; these must not be.
    draws = {tuple(stream(1, "x", *keys).integers(2**62, size=4)) for keys in [(), (0,), (0, 0), (0, 0, 0)]}
    assert len(draws) == 4


def test_streams_of_different_devices_are_uncorrelated() -> None:
    draws = np.array([stream(0, "jitter", device).standard_normal(2000) for device in range(20)])
    correlations = np.corrcoef(draws)[np.triu_indices(20, k=1)]
    # 190 sample correlations of standard deviation 1/sqrt(2000) = 0.022; five of those are never exceeded.
    assert np.abs(correlations).max() < 5 / np.sqrt(2000)


def test_large_seeds_are_used_whole() -> None:
    assert stream(2**63 - 1, "x").random() != stream(2**62 - 1, "x").random()
    assert stream(2**32, "x", 0).random() != stream(0, "x", 1).random()


@pytest.mark.parametrize("key", [2**32, -1])
def test_keys_that_would_be_confused_with_others_are_refused(key: int) -> None:
    with pytest.raises(ValueError, match=rf"key {key} of the stream 'jitter' is outside 0 to 4294967295"):
        stream(0, "jitter", key)


KEYS = st.integers(0, 2**32 - 1)


@given(st.integers(0, 2**130), st.lists(st.tuples(KEYS, KEYS), max_size=5))
def test_many_streams_at_once_are_those_that_are_made_one_by_one(root_seed: int, keys: list[tuple[int, int]]) -> None:
    devices, flights = np.array(keys, np.int64).reshape(-1, 2).T
    together = [
        (numbers.bit_generator.state, numbers.standard_normal())
        for numbers in streams(root_seed, "jitter", devices, flights)
    ]
    assert together == [
        (numbers.bit_generator.state, numbers.standard_normal())
        for numbers in (stream(root_seed, "jitter", *pair) for pair in keys)
    ]


@pytest.mark.parametrize("key", [-1, 2**32])
def test_keys_of_many_streams_are_checked_as_well(key: int) -> None:
    with pytest.raises(ValueError, match=rf"key {key} of the stream 'jitter' is outside 0 to 4294967295"):
        next(streams(1, "jitter", np.array([0, key])))


@given(
    root_seed=st.integers(0, 2**200),
    keys=st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=3), min_size=1, max_size=4),
)
def test_a_brief_stream_is_the_stream(root_seed: int, keys: list[list[int]]) -> None:
    for each in keys:
        brief, lasting = brief_stream(root_seed, "toy", *each), stream(root_seed, "toy", *each)
        assert [brief.integers(1000), brief.standard_normal()] == [lasting.integers(1000), lasting.standard_normal()]


@pytest.mark.parametrize("key", [-1, 2**32])
def test_keys_of_a_brief_stream_are_checked_as_well(key: int) -> None:
    with pytest.raises(ValueError, match=f"key {key} of the stream 'toy' is outside 0 to 4294967295"):
        brief_stream(0, "toy", 1, key)


def test_a_brief_stream_is_that_of_its_thread_whatever_others_ask_for_before_it_is_drawn_from() -> None:
    mine = brief_stream(5, "toy", 1)
    asked: list[np.random.Generator] = []
    thread = threading.Thread(target=lambda: asked.append(brief_stream(5, "toy", 2)))
    thread.start()
    thread.join()
    assert mine.random() == stream(5, "toy", 1).random()
    assert asked[0].random() == stream(5, "toy", 2).random()


def test_integer_seeds_repeat_differ_and_stay_in_range() -> None:
    seeds = [integer_seed(7, "weights", key) for key in range(200)]
    assert seeds == [integer_seed(7, "weights", key) for key in range(200)]
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_words_depend_on_their_place_alone() -> None:
    rows, columns = np.divmod(np.arange(400), 20)
    table = words(7, "walk", rows, columns)
    order = stream(0, "order").permutation(400)
    np.testing.assert_array_equal(words(7, "walk", rows[order], columns[order]), table[order])
    assert words(7, "walk", np.array([3]), np.array([5]))[0] == table[65]
    elsewhere = [words(8, "walk", rows, columns), words(7, "other", rows, columns), words(7, "walk", columns, rows)]
    assert len({*table.tolist(), *elsewhere[0].tolist(), *elsewhere[1].tolist()}) == 1200
    assert np.count_nonzero(elsewhere[2] == table) == 20, "only the diagonal of a table is that of its mirror image"


def test_the_bits_of_words_are_fair_and_unlike_those_of_their_neighbours() -> None:
    rows, columns = (part.ravel() for part in np.indices((400, 400)))
    bits = np.unpackbits(words(0, "walk", rows, columns).view(np.uint8)).reshape(400, 400, 64)
    # A share of fair bits over n draws has standard deviation 1 / (2 sqrt(n)); five of them for the worst of 64.
    assert np.abs(bits.mean(axis=(0, 1)) - 0.5).max() < 5 / (2 * 400)
    for neighbour in (bits[1:] != bits[:-1], bits[:, 1:] != bits[:, :-1], bits[1:, 1:] != bits[:-1, :-1]):
        assert np.abs(neighbour.mean(axis=(0, 1)) - 0.5).max() < 5 / (2 * 399)


def test_the_numbers_are_these() -> None:
    # Frozen: a change of these numbers changes every result and needs a line in the changelog.
    assert stream(42, "selection", 1).integers(1000, size=4).tolist() == [490, 937, 30, 171]
    assert integer_seed(42, "weights") == 1213550608293136612
    assert words(42, "walk", np.array([3, 0]), np.array([5, 0])).tolist() == [
        16323317113502394224,
        11100273890236884300,
    ]


@given(st.integers(0, 2**70), st.sampled_from([0, 1, 700]), KEYS)
@settings(max_examples=20, deadline=None)
def test_first_uniforms_of_many_streams_are_those_of_each(root_seed: int, count: int, first: int) -> None:
    devices, versions = (first + 7919 * np.arange(count)) % 2**32, np.full(count, 3)
    pairs = zip(devices.tolist(), versions.tolist(), strict=True)
    expected = [stream(root_seed, "trained-run", *pair).random() for pair in pairs]
    assert uniforms(root_seed, "trained-run", devices, versions).tolist() == expected


@pytest.mark.slow
@given(st.integers(0, 2**70), st.sampled_from([1, 15, 16, 700]), KEYS)
@settings(max_examples=20, deadline=None)
def test_first_draws_of_many_streams_are_those_of_each(root_seed: int, count: int, first: int) -> None:
    """700 streams draw from about every layer of the ziggurat, and seven of them more than one word."""
    devices, flights = (first + 7919 * np.arange(count)) % 2**32, 3 * np.arange(count)
    made = [
        stream(root_seed, "jitter", int(device), int(flight)) for device, flight in zip(devices, flights, strict=True)
    ]
    normals = standard_normals(root_seed, "jitter", devices, flights)
    assert normals.tobytes() == np.array([numbers.standard_normal() for numbers in made]).tobytes()
    made = [
        stream(root_seed, "hazard", int(device), int(flight)) for device, flight in zip(devices, flights, strict=True)
    ]
    exponentials = standard_exponentials(root_seed, "hazard", devices, flights)
    assert exponentials.tobytes() == np.array([numbers.standard_exponential() for numbers in made]).tobytes()


@pytest.mark.parametrize("count", [1, 20])
def test_first_draws_refuse_keys_that_would_be_confused(count: int) -> None:
    keys = np.full(count, 2**32)
    with pytest.raises(ValueError, match=r"key 4294967296 of the stream 'jitter' is outside 0 to 4294967295"):
        standard_normals(0, "jitter", keys)

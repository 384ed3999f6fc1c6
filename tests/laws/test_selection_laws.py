"""Laws of the learning selectors, on generated numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neulite_sim.selection.latency_tiers import tiers_by_latency
from neulite_sim.selection.oort import (
    normalised_utilities,
    paced,
    preferred_duration_s,
    speed_factor,
)
from neulite_sim.selection.tifl import adaptive_probabilities

accuracies = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3)), min_size=1, max_size=12)
amounts = st.lists(st.floats(0, 1e6), min_size=1, max_size=40)
durations = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=40)


@given(accuracies)
def test_probabilities_sum_to_one_over_the_tiers_with_credits(pairs):
    values, left = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    found = adaptive_probabilities(values, left)
    assert np.isclose(found.sum(), 1.0 if left.any() else 0.0)
    assert ((found > 0) == (left > 0)).all()


@given(accuracies)
def test_a_tier_with_a_lower_accuracy_is_never_less_likely(pairs):
    values = np.array([pair[0] for pair in pairs])
    found = adaptive_probabilities(values, np.ones(len(values), dtype=np.int64))
    worse, better = np.nonzero(values[:, None] < values[None, :])
    assert (found[worse] > found[better]).all()


@given(durations, st.integers(1, 10))
def test_tiers_hold_each_device_once_and_ascend_in_latency(latencies_s, num_tiers):
    groups = tiers_by_latency(np.array(latencies_s), num_tiers)
    order = np.concatenate(groups)
    assert sorted(order) == list(range(len(latencies_s)))
    assert (np.diff(np.array(latencies_s)[order]) >= 0).all()
    sizes = [len(group) for group in groups]
    assert max(sizes) - min(sizes) <= 1


@given(amounts, st.floats(0.01, 1))
def test_normalised_utility_lies_between_zero_and_one_and_keeps_the_order(utilities, clip):
    found = normalised_utilities(np.array(utilities), clip)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-9
    assert (np.diff(found[np.argsort(utilities, kind="stable")]) >= 0).all()


@given(durations, st.floats(0.1, 200), st.floats(0, 4))
def test_only_devices_slower_than_preferred_pay(durations_s, percentile, alpha):
    seconds = np.array(durations_s)
    preferred_s = preferred_duration_s(seconds, percentile)
    found = speed_factor(seconds, preferred_s, alpha)
    assert (found[seconds <= preferred_s] == 1).all()
    assert ((found > 0) & (found <= 1)).all()
    assert preferred_s in [*durations_s, np.inf]


@given(st.floats(1, 100), amounts, st.integers(1, 5), st.floats(0.5, 50))
def test_the_pacer_stays_in_its_bounds_and_moves_one_step_at_most(percentile, history, window, step):
    found = paced(percentile, history, window=window, step=step)
    assert abs(found - percentile) <= step + 1e-9
    assert min(percentile, step) <= found <= 100

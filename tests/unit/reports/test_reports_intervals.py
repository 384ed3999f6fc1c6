"""Confidence intervals and paired differences against numbers by hand and the printed table of t."""

import math

import numpy as np
import pytest

from neulite_sim.reports.intervals import Interval, mean_interval, paired_difference, t_quantile


@pytest.mark.parametrize(("degrees", "quantile"), [(1, math.tan(0.475 * math.pi)), (2, 0.95 * math.sqrt(2 / 0.0975))])
def test_quantiles_of_one_and_two_degrees_have_a_closed_form(degrees, quantile):
    """t_1(p) = tan(pi (p - 1/2)); t_2(p) = (2p - 1) sqrt(2 / (4p (1 - p))): 12.706 and 4.303 at p = 0.975."""
    assert t_quantile(0.975, degrees) == pytest.approx(quantile, rel=1e-12)


def test_the_interval_of_three_values_by_hand():
    """Mean 5, s = sqrt((9 + 1 + 16) / 2) = sqrt(13), t = 4.30265: half width 4.30265 sqrt(13 / 3) = 8.9567."""
    found = mean_interval([2.0, 4.0, 9.0])
    assert (found.mean, found.count) == (5.0, 3)
    assert found.half_width == pytest.approx(8.9567, abs=5e-5)
    assert (found.low, found.high) == (pytest.approx(-3.9567, abs=5e-5), pytest.approx(13.9567, abs=5e-5))


@pytest.mark.parametrize(("degrees", "printed"), [(3, 3.182), (4, 2.776), (9, 2.262), (11, 2.201), (30, 2.042)])
def test_quantiles_are_those_of_the_printed_table(degrees, printed):
    assert t_quantile(0.975, degrees) == pytest.approx(printed, abs=5e-4)


def test_pairing_takes_out_what_seeds_have_in_common():
    """Differences 1, 2, 3: mean 2, s = 1, half width 4.30265 / sqrt(3); unpaired, the seeds' spread hides it."""
    baseline = {42: 10.0, 43: 50.0, 44: 90.0}
    found = paired_difference({42: 11.0, 43: 52.0, 44: 93.0}, baseline)
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(4.30265 / math.sqrt(3), abs=1e-5)
    assert mean_interval([11.0, 52.0, 93.0]).low < mean_interval(list(baseline.values())).high


def test_only_seeds_that_both_have_are_paired():
    found = paired_difference({43: 2.0, 44: 5.0, 45: 100.0}, {42: 0.0, 43: 1.0, 44: 3.0})
    assert (found.mean, found.count) == (1.5, 2)
    assert paired_difference({1: 2.0}, {2: 2.0}) is None


@pytest.mark.parametrize(
    ("low", "high", "if_larger", "if_smaller"),
    [
        (0.1, 2.0, "better", "worse"),
        (-2.0, -0.1, "worse", "better"),
        (-0.1, 2.0, "not told apart", "not told apart"),
        (0.0, 2.0, "not told apart", "not told apart"),
        (None, None, "not told apart", "not told apart"),
    ],
)
def test_better_and_worse_are_said_only_where_zero_is_left_out(low, high, if_larger, if_smaller):
    found = Interval(mean=1.0, low=low, high=high, count=3)
    assert found.verdict() == if_larger
    assert found.verdict(larger_is_better=False) == if_smaller


def test_one_seed_has_a_mean_and_no_interval():
    assert mean_interval([3.0]) == Interval(mean=3.0, low=None, high=None, count=1)
    assert mean_interval([3.0]).half_width is None
    assert paired_difference({1: 3.0}, {1: 1.0}).verdict() == "not told apart"


PAIRS = ({1: 0.71, 2: 0.82, 3: 0.64, 4: 0.9, 5: 0.77}, {1: 0.7, 2: 0.75, 3: 0.66, 4: 0.81, 6: 0.2})


def test_a_paired_interval_is_that_of_scipys_paired_test():
    """scipy.stats.ttest_rel of the four seeds that both have."""
    from scipy.stats import ttest_rel

    values, baseline = PAIRS
    seeds = (1, 2, 3, 4)
    wanted = ttest_rel([values[seed] for seed in seeds], [baseline[seed] for seed in seeds]).confidence_interval(0.95)
    found = paired_difference(values, baseline)
    assert (found.low, found.high) == (pytest.approx(wanted.low), pytest.approx(wanted.high))
    assert (found.count, found.verdict()) == (4, "not told apart")


def test_many_values_have_a_bootstrap_interval_near_to_scipys_and_the_same_each_time():
    from scipy.stats import bootstrap

    values = [0.1, 0.15, 0.2, 0.22, 0.3, 0.31, 0.5, 0.9, 1.6, 2.5]
    found = mean_interval(values, kind="bca")
    assert found == mean_interval(values, kind="bca")
    wanted = bootstrap((values,), np.mean, method="BCa", random_state=np.random.default_rng(1)).confidence_interval
    assert (found.kind, found.count) == ("bca", 10)
    # Two sets of 9999 resamples: the ends move by a few thousandths.
    assert (found.low, found.high) == (pytest.approx(wanted.low, abs=0.03), pytest.approx(wanted.high, abs=0.06))
    # Of skewed values the upper end is farther away.
    assert found.high - found.mean > found.mean - found.low


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [2.0] * 12])
def test_few_or_equal_values_have_students_interval_instead(values):
    assert mean_interval(values, kind="bca") == mean_interval(values)
    assert mean_interval(values, kind="bca").kind == "t"


def test_equal_numbers_that_differ_by_rounding_are_no_difference():
    """0.1 + 0.2 is not 0.3 in floating point, three times by the same amount: an interval of no width beside zero."""
    found = paired_difference(dict.fromkeys((1, 2, 3), 0.1 + 0.2), dict.fromkeys((1, 2, 3), 0.3))
    assert (found.mean, found.low, found.high, found.verdict()) == (0, 0, 0, "not told apart")

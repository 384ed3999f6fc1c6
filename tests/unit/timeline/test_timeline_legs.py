"""Legs: steady work, and transfers over a rate that changes."""

import math

import numpy as np
import pytest

from neulite_sim.population.link.throughput import ConstantRate, SteppedRate
from neulite_sim.timeline.legs import Steady, TracedTransfer
from neulite_sim.traces.steps import steps


def test_a_steady_leg_takes_its_seconds_whenever_it_begins():
    assert Steady(2.5).ends_s(10.0) == 12.5
    assert Steady(2.5).rest(10.0, 11.0) == Steady(1.5)
    assert Steady(0.0).ends_s(3.0) == 3.0


def test_a_steady_leg_has_no_less_than_nothing_left():
    """0.1 + 0.2 is a bit above 0.3, so a break there would leave less than no time."""
    assert Steady(0.2).rest(0.1, 0.1 + 0.2).seconds == 0.0


def test_a_transfer_takes_its_latency_and_then_follows_the_rate():
    """10 bits/s for 4 s, then 2 bits/s: after 1 s of latency, 30 bits by 4 s, and 6 more take 3 s."""
    link = SteppedRate(steps=steps(np.array([0.0, 4.0, 100.0]), np.array([10.0, 2.0])))
    assert TracedTransfer(link, 36.0, 1.0).ends_s(0.0) == pytest.approx(7.0)


def test_an_interrupted_transfer_pays_its_latency_once():
    leg = TracedTransfer(ConstantRate(8.0), 80.0, 2.0)
    assert leg.rest(5.0, 6.5) == TracedTransfer(leg.throughput, 80.0, 0.5)
    assert leg.rest(5.0, 7.0) == TracedTransfer(leg.throughput, 80.0, 0.0)
    assert leg.rest(5.0, 12.0) == TracedTransfer(leg.throughput, 40.0, 0.0)
    assert leg.rest(5.0, 12.0).ends_s(100.0) == 105.0


def test_a_transfer_over_a_link_that_has_died_never_ends():
    link = SteppedRate(steps=steps(np.array([0.0, 1.0]), np.array([10.0])), is_repeated=False)
    assert TracedTransfer(link, 11.0).ends_s(0.0) == math.inf

"""Links: who has which, and how long a transfer takes."""

from __future__ import annotations

import numpy as np
import pytest

from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.population.link.network import link_columns, transfer_s
from neulite_sim.population.sampling import group_link
from neulite_sim.scenario.schema import Link

SLOW = Link(downlink="1Mbps", uplink="500kbps", latency="100ms")
FAST = Link(downlink="1Gbps", uplink="1Gbps", latency=0)


def test_a_transfer_takes_latency_plus_bits_over_rate() -> None:
    # 44.7 MB of ResNet18 over 20 Mbps: 357.6 Mbit / 20 Mbit/s = 17.88 s.
    assert transfer_s(44.7e6, 20e6, 0.02) == pytest.approx(17.9)


def test_transfers_of_many_devices_are_computed_at_once() -> None:
    seconds = transfer_s(np.array([1_000_000, 2_000_000]), np.array([8e6, 4e6]), np.array([0.5, 0.0]))
    assert list(seconds) == pytest.approx([1.5, 4.0])


def test_nothing_to_send_still_costs_the_latency() -> None:
    assert transfer_s(0, 1e6, 0.25) == 0.25


def test_the_catalogue_gives_a_link_where_the_scenario_does_not() -> None:
    link = group_link(device_class("phone-low-snapdragon-650"), population=None, group=None)
    assert (link.downlink, link.uplink) == pytest.approx((5.03e6, 1.43e6))
    assert link.latency == Link.model_fields["latency"].default


def test_a_groups_link_replaces_the_populations_and_that_the_catalogues() -> None:
    nano = device_class("jetson-nano-4gb")
    assert group_link(nano, population=SLOW, group=None) is SLOW
    assert group_link(nano, population=SLOW, group=FAST) is FAST


def test_columns_give_each_device_the_link_of_its_group() -> None:
    columns = link_columns((SLOW, FAST), np.array([1, 0, 1]), seed=0)
    assert list(columns.downlink_bits_per_second) == [1e9, 1e6, 1e9]
    assert list(columns.uplink_bits_per_second) == [1e9, 5e5, 1e9]
    assert list(columns.latency_s) == [0.0, 0.1, 0.0]

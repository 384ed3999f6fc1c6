"""The timeline against queueing theory, small: `verification/queueing.py` runs the same checks at size.

The tolerance is four standard errors, estimated from independent replications or, for devices in flight and
drop-outs, known from theory. Seeds are fixed, so a check holds always or never.
"""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neulite_sim.seeding import stream

SCRIPT = Path(__file__).parents[2] / "verification" / "queueing.py"


@pytest.fixture(scope="module")
def queueing():
    spec = importlib.util.spec_from_file_location("verification_queueing", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def sharing(queueing):
    return list(queueing.processor_sharing([0.6], 15, 2000, seed=1))


def assert_all_hold(checks, count):
    checks = list(checks)
    assert len(checks) == count
    for check in checks:
        assert check.holds, f"{check.name}: {check.measured:.4f}, theory {check.expected:.4f} +- {check.tolerance:.4f}"


@pytest.mark.slow
def test_the_shared_link_is_processor_sharing_whatever_the_sizes(sharing):
    assert_all_hold(sharing, 8)


@pytest.mark.slow
def test_limits_of_a_quarter_make_the_link_four_servers(queueing):
    assert_all_hold(queueing.limited_sharing(4, 10, 2000, seed=1), 3)


@pytest.mark.slow
def test_devices_in_flight_under_poisson_dispatches_are_poisson(queueing):
    assert_all_hold(queueing.devices_in_flight(10.0, 500, seed=1), 6)


def test_the_link_is_empty_whenever_one_that_serves_in_order_of_arrival_would_be(queueing):
    """Whoever wastes no capacity has the same unfinished work: Lindley's recursion, Proc. Camb. Phil. Soc. 48, 1952."""
    count, load = 2000, 0.8
    gaps_s = (numbers := stream(3, "lindley")).exponential(1 / load, size=count)
    sizes = numbers.exponential(size=count)
    waiting_s, empty = 0.0, [True]
    for gap_s, size in zip(gaps_s[1:], sizes[:-1], strict=True):
        waiting_s = max(0.0, waiting_s + size - gap_s)
        empty.append(waiting_s == 0.0)
    found = queueing.poisson_link(load, queueing.SIZES["exponential"], 1, count, stream(3, "lindley"))
    assert found.found_empty.tolist() == empty[count // 5 :]


def test_flights_drop_at_the_rate_at_which_devices_leave(queueing):
    assert_all_hold(queueing.dropped_by_leaving(1000, 2, seed=1), 3)


def test_flights_of_whole_runs_fail_at_the_rate_of_the_hazard_and_when_it_says(queueing):
    assert_all_hold(queueing.dropped_by_failure([1.0], 5, seed=1), 2)


@pytest.mark.slow
def test_asynchronous_arrivals_per_second_are_littles_law_whatever_the_buffer(queueing):
    assert_all_hold(queueing.asynchronous_throughput([7], 700, seed=1), 3)


@pytest.mark.slow
def test_the_check_tells_sharing_from_serving_in_order_of_arrival(sharing):
    """M/D/1 in order of arrival has E[T] = 1 + rho / (2 (1 - rho)) (Pollaczek-Khinchine)."""
    found = {check.name: check for check in sharing}
    in_order = replace(found["PS rho=0.6 deterministic: E[T] s"], expected=1 + 0.6 / (2 * (1 - 0.6)))
    assert not in_order.holds


def test_erlang_c_of_one_server_is_its_load_and_of_two_is_by_hand(queueing):
    assert queueing.erlang_c(1, 0.3) == pytest.approx(0.3)
    # Two servers, 1 Erlang: P(0) = 1 / (1 + 1 + 1) with the tail (1/2) * 2; waiting is that tail over 3.
    assert queueing.erlang_c(2, 1.0) == pytest.approx(1 / 3)

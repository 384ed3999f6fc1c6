"""How an update moves the model, by hand; the numbers are those of methods.md, section 9."""

import pytest
import torch

from neulite_sim.engine.merging import mixed
from neulite_sim.methods.aggregation import weighted_mean
from neulite_sim.methods.contract import Method, State, Update
from neulite_sim.timeline.asynchronous import HingeStaleness, PolynomialStaleness
from neulite_sim.timeline.endings import Mixing


class Whole(Method):
    """The payload is the state, and notes the versions it was asked for."""

    def __init__(self):
        self.asked = []

    def payload(self, state, submodel):
        self.asked.append(state.version)
        return state.tensors


def _state(value, version=5):
    return State(version=version, tensors={"w": torch.tensor(value, dtype=torch.float64)})


def _update(value, version=5):
    tensors = {"w": torch.tensor(value, dtype=torch.float64)}
    return Update(device=0, submodel="full", num_samples=1, tensors=tensors, loss=0.0, version=version)


def _moved(update, mixing, *, state=1.0, sent=1.0):
    return float(mixed(Whole(), _state(state), _state(sent), update, mixing).tensors["w"])


def test_without_mixing_an_update_counts_as_it_is():
    update = _update(7.0)
    assert mixed(Whole(), _state(1.0), _state(0.0), update, None) is update


def test_fedasync_with_polynomial_staleness_three():
    rate = 0.6 * PolynomialStaleness(a=0.5).factor(3)
    assert _moved(_update(2.0), Mixing(rate=rate, anchor="current")) == pytest.approx(1.3)


def test_fedasync_with_hinge_staleness_five():
    rate = 0.6 * HingeStaleness(a=10, b=4).factor(5)
    assert _moved(_update(2.0), Mixing(rate=rate, anchor="current")) == pytest.approx(1.0545455, abs=1e-7)


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.6), (2 / 1.5, 0.4666667)])
def test_fedbuff_of_two_updates_of_staleness_zero_and_three(scale, expected):
    """x = 1, steps of 0.4 and 0.8 away from what was sent; the mean rule, and normalised by the sum of weights."""
    factors = [PolynomialStaleness(a=0.5).factor(staleness) for staleness in (0, 3)]
    updates = [_update(5.0 - 0.4), _update(3.0 - 0.8)]
    method, moved = Whole(), []
    for update, sent, factor in zip(updates, (5.0, 3.0), factors, strict=True):
        moved.append(mixed(method, _state(1.0), _state(sent), update, Mixing(rate=factor * scale, anchor="own")))
    assert float(weighted_mean(moved, "uniform")["w"]) == pytest.approx(expected, abs=1e-7)


def test_windows_that_roll_are_those_of_the_version_that_was_sent():
    method = Whole()
    mixed(method, _state(1.0, version=9), _state(2.0, version=4), _update(3.0, version=4), Mixing(rate=1, anchor="own"))
    assert method.asked == [4, 4]


def test_with_nothing_in_between_both_anchors_are_the_same_bits():
    update, state = _update(0.3), _state(0.1)
    moved = [mixed(Whole(), state, state, update, Mixing(rate=0.7, anchor=anchor)) for anchor in ("own", "current")]
    assert torch.equal(moved[0].tensors["w"], moved[1].tensors["w"])


def test_running_statistics_go_towards_the_update_and_never_beyond():
    """A variance of 1 that was sent as 9 and came back as 2 would be moved to -6 as a step."""

    def statistics(value):
        return {"layer.running_var": torch.tensor(value), "w": torch.tensor(value)}

    state, sent = (State(version=5, tensors=statistics(value)) for value in (1.0, 9.0))
    update = Update(device=0, submodel="full", num_samples=1, tensors=statistics(2.0), loss=0.0, version=5)
    for rate, expected in ((0.5, 1.5), (1.0, 2.0), (3.0, 2.0)):
        moved = mixed(Whole(), state, sent, update, Mixing(rate=rate, anchor="own")).tensors
        assert float(moved["layer.running_var"]) == expected
        assert float(moved["w"]) == 1.0 - 7.0 * rate

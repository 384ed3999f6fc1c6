"""How an update moves the model, by hand; the numbers are those of methods.md, section 9."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim import simulate
from neulite_sim.engine.merging import mixed
from neulite_sim.errors import SimulationError
from neulite_sim.methods.aggregation import weighted_mean
from neulite_sim.methods.contract import Method, State, Update
from neulite_sim.timeline.asynchronous import FEDBUFF, FedBuffOptions, HingeStaleness, PolynomialStaleness
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


def mixings(stalenesses, **options):
    return FEDBUFF.build(FedBuffOptions(**options))._rule.mixing(stalenesses)


@pytest.mark.parametrize(("normalises", "expected"), [(False, 0.6), (True, 0.4666667)])
def test_fedbuff_of_two_updates_of_staleness_zero_and_three(normalises, expected):
    """x = 1, steps of 0.4 and 0.8 away from what was sent; the mean rule, and normalised by the sum of weights."""
    updates = [_update(5.0 - 0.4), _update(3.0 - 0.8)]
    method, moved = Whole(), []
    for update, sent, mixing in zip(updates, (5.0, 3.0), mixings([0, 3], normalise=normalises), strict=True):
        moved.append(mixed(method, _state(1.0), _state(sent), update, mixing))
    assert float(weighted_mean(moved, "uniform")["w"]) == pytest.approx(expected, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 1000), st.floats(-2, 2), st.booleans()), min_size=1),
    st.sampled_from(["samples", "uniform"]),
    st.sampled_from([{"a": 0.5}, {"a": 3.0}, {"a": 1000.0}]),
)
def test_normalised_steps_are_the_mean_by_staleness_and_the_methods_weights_of_what_carries_a_tensor(
    arrived, weighting, decay
):
    """So equal steps move a tensor by the server's rate, whoever carries it, however old, and whatever its samples."""
    mixing = mixings([age for age, _, _, _ in arrived], normalise=True, server_rate=0.5,
                     staleness={"kind": "polynomial", **decay})  # fmt: skip
    state = State(version=5, tensors={name: torch.zeros((), dtype=torch.float64) for name in ("all", "some", "same")})
    moved, sums = [], {}
    for (age, count, step, is_carried), how in zip(arrived, mixing, strict=True):
        steps = {"all": step, "same": 1.0, **({"some": step} if is_carried else {})}
        update = Update(
            device=0,
            submodel="full",
            num_samples=count,
            loss=0.0,
            version=5,
            tensors={name: torch.tensor(value, dtype=torch.float64) for name, value in steps.items()},
        )
        moved.append(mixed(Whole(), state, state, update, how))
        weight = max((age + 1.0) ** -decay["a"], 1e-100) * (count if weighting == "samples" else 1)
        for name, value in steps.items():
            total, weights = sums.get(name, (0.0, 0.0))
            sums[name] = total + weight * value, weights + weight
    for name, tensor in weighted_mean(moved, weighting).items():
        assert float(tensor) == pytest.approx(0.5 * sums[name][0] / sums[name][1], rel=1e-9, abs=1e-12)


def median(current, updates):
    return {name: torch.stack([update.tensors[name] for update in updates]).median(0).values for name in current}


def test_a_method_that_asks_for_no_weights_is_refused_where_updates_weigh_less():
    scenario = {
        "name": "median", "seed": 1, "model": {"kind": "logistic"}, "backend": "inprocess", "stop": {"rounds": 8},
        "data": {"kind": "digits", "partition": {"kind": "quantity", "alpha": 0.3}},
        "training": {"batch_size": 32}, "selection": {"kind": "uniform", "devices_per_round": 5},
        "population": {"devices": 8, "available_memory": {"kind": "uniform", "low": "1GB", "high": "1GB"}, "groups": [
            {"device": "jetson-nano-4gb", "share": 1}, {"device": "raspberry-pi-4-8gb", "share": 1}]},
    }  # fmt: skip
    simulate({**scenario, "protocol": {"kind": "fedbuff", "buffer_size": 2}}, method=median)
    message = (
        r"^the protocol lets updates weigh 0\.\d+ times as much as others, and method \S+ takes no mean by their weights; "
        r"weigh them by update\.weight\(weighting\), as neulite_sim\.methods\.aggregation\.weighted_mean does, or leave out "
        r"protocol\.normalise$"
    )
    with pytest.raises(SimulationError, match=message):
        simulate({**scenario, "protocol": {"kind": "fedbuff", "buffer_size": 2, "normalise": True}}, method=median)


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

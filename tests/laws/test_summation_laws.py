"""Laws of sums that do not depend on their order: any order, any grouping, the same bits, and close to the exact sum."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neulite_sim.methods import joint_sum
from neulite_sim.methods.joint_sum import JointSum
from neulite_sim.methods.summation import WeightedSum

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SPECIAL = (math.inf, -math.inf, math.nan)


def total(terms, most_weight, cuts=()):
    """Return the mean of terms that are added in parts, which are merged from the last to the first."""
    parts = [WeightedSum(most_weight)]
    for number, (tensor, weight) in enumerate(terms):
        if number in cuts:
            parts.append(WeightedSum(most_weight))
        parts[-1].add(tensor, weight)
    last = parts.pop()
    while parts:
        last.merge(parts.pop())
    return last.mean()


@st.composite
def many_terms(draw, special=False):
    kind = draw(st.sampled_from(TYPES[:2] if special else TYPES))
    rng = np.random.Generator(np.random.PCG64(draw(st.integers(0, 2**32))))
    count = draw(st.integers(1, 12))
    spread = draw(st.integers(0, 4 if kind == torch.float16 else 30))
    values = [
        torch.from_numpy(rng.standard_normal(8) * 10.0 ** rng.integers(-spread, spread + 1)) for _ in range(count)
    ]
    if special:
        for value in values:
            value[draw(st.integers(0, 7))] = draw(st.sampled_from((*SPECIAL, 0.0, 1e30)))
    return [(value.to(kind), int(weight)) for value, weight in zip(values, rng.integers(1, 500, count), strict=True)]


def bits(tensor):
    return tensor.numpy().tobytes()


@given(st.data(), st.booleans())
def test_order_and_grouping_leave_no_trace(data, special):
    terms = data.draw(many_terms(special))
    most_weight = sum(weight for _, weight in terms) + data.draw(st.integers(0, 1000))
    wanted = bits(total(terms, most_weight))
    other = data.draw(st.permutations(terms))
    cuts = data.draw(st.sets(st.integers(0, len(terms))))
    assert bits(total(other, most_weight, cuts)) == wanted


@given(many_terms())
def test_the_mean_is_off_by_no_more_than_is_promised(terms):
    weight = sum(weight for _, weight in terms)
    largest = max(float(tensor.double().abs().max()) for tensor, _ in terms)
    found = total(terms, weight)
    for place in range(8):
        exact = math.fsum(float(tensor[place]) * times for tensor, times in terms) / weight
        assert abs(float(found[place]) - exact) <= 2.0**-43 * largest * len(terms)


@given(many_terms(special=True))
def test_what_is_not_finite_comes_out_as_a_plain_sum_would_have_it(terms):
    weight = sum(weight for _, weight in terms)
    found = total(terms, weight)
    with np.errstate(all="ignore"):
        plain = sum(tensor.double().numpy() * times for tensor, times in terms)
    assert np.array_equal(np.isnan(found.numpy()), np.isnan(plain))
    infinite = np.isinf(plain)
    assert np.array_equal(found.numpy()[infinite], plain[infinite])


def test_a_small_term_survives_beside_a_huge_one():
    """1 is below half a unit beside 2^60 alone, yet 4,000 of them are not lost: each has its own slice."""
    one, huge = torch.ones(1), torch.full((1,), 2.0**60)
    found = total([(huge, 1), *[(one, 1)] * 4000], 4001)
    assert float(found) * 4001 == pytest.approx(2**60 + 4000, rel=1e-15)


def test_parts_that_arrive_read_only_are_left_as_they_are():
    mine, others = WeightedSum(2), WeightedSum(2)
    others.add(torch.ones(3), 1)
    for parts in others.slices.values():
        for part in parts:
            part.flags.writeable = False
    before = {place: [part.copy() for part in parts] for place, parts in others.slices.items()}
    mine.merge(others)
    mine.add(torch.ones(3), 1)
    assert mine.mean().tolist() == [1.0, 1.0, 1.0]
    assert all(np.array_equal(part, before[place][0]) for place, (part,) in others.slices.items())


@pytest.mark.parametrize("tensor", [torch.zeros(2), torch.zeros(0), torch.full((2,), 5e-324, dtype=torch.float64)])
def test_nothing_and_next_to_nothing_have_a_mean(tensor):
    assert total([(tensor, 3)], 3).tolist() == [0.0] * len(tensor)


@st.composite
def many_updates(draw):
    """Tensors by name, small and large, of any type and shape, here and there with what is no number."""
    rng = np.random.Generator(np.random.PCG64(draw(st.integers(0, 2**32))))
    shapes = {"a": (3, 2), "b": (), "empty": (0,), "large": (11,), "c": (7,)}
    kinds = {name: draw(st.sampled_from(TYPES)) for name in shapes}
    updates = []
    for _ in range(draw(st.integers(1, 6))):
        tensors = {
            name: torch.from_numpy(np.asarray(rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 4))).to(kinds[name])
            for name, shape in shapes.items()
        }
        if draw(st.booleans()):
            tensors[draw(st.sampled_from(["a", "large", "c"]))].view(-1)[0] = draw(st.sampled_from(SPECIAL))
        updates.append((tensors, int(rng.integers(1, 500))))
    return updates


@given(st.data(), many_updates())
def test_sums_of_many_tensors_at_once_are_those_of_each(data, updates):
    most_weight = sum(weight for _, weight in updates) + data.draw(st.integers(0, 9))
    other = data.draw(st.permutations(updates))
    cuts = data.draw(st.sets(st.integers(0, len(updates))))
    parts = [JointSum(most_weight)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(joint_sum, "_SMALL", 10)
        for number, (tensors, weight) in enumerate(other):
            if number in cuts:
                parts.append(JointSum(most_weight))
            parts[-1].add(tensors, weight)
    last = parts.pop()
    while parts:
        last.merge(parts.pop())
    last.means()
    found = last.means()
    assert list(found) == list(updates[0][0])
    for name, mean in found.items():
        each = total([(tensors[name], weight) for tensors, weight in updates], most_weight)
        assert mean.shape == each.shape
        assert np.array_equal(mean.numpy(), each.numpy(), equal_nan=True)


def test_joint_parts_that_arrive_read_only_are_left_as_they_are():
    mine, others = JointSum(2), JointSum(2)
    others.add({"a": torch.ones(3)}, 1)
    (part,) = others.joint.values()
    part.flags.writeable = False
    before = part.copy()
    mine.merge(others)
    mine.add({"a": torch.ones(3)}, 1)
    assert mine.means()["a"].tolist() == [1.0, 1.0, 1.0]
    assert np.array_equal(part, before)

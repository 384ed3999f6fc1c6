"""What holds for every slice: counts, inverses, and the fairness of rolling windows."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.methods.dimension import Dimension, window
from neulite_sim.methods.width import OverlapMean, take

axes = st.builds(Dimension, st.integers(1, 5), st.integers(1, 2), st.integers(1, 3))


@st.composite
def sliced(draw):
    """Return the axes of a tensor and some slices of it: index sets per dimension."""
    found = draw(st.lists(axes, min_size=1, max_size=3))
    slices = []
    for _ in range(draw(st.integers(1, 4))):
        kept = [draw(st.integers(1, axis.channels)) * axis.outer * axis.inner for axis in found]
        slices.append(tuple(axis.held(size, draw(st.integers(-7, 7))) for axis, size in zip(found, kept, strict=True)))
    return found, slices


def holds(indices, position):
    return all(held is None or at in held.tolist() for held, at in zip(indices, position, strict=True))


def numbered(found):
    shape = [axis.size for axis in found]
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


@settings(max_examples=60, deadline=None)
@given(sliced())
def test_a_scalar_is_counted_once_for_every_slice_that_holds_it(case):
    found, slices = case
    tensor = numbered(found)
    mean = OverlapMean({"w": tensor})
    for indices in slices:
        mean.add("w", indices, take(tensor, indices))
    counts = mean.weights("w")
    for position in torch.cartesian_prod(*[torch.arange(axis.size) for axis in found]).reshape(-1, len(found)):
        at = tuple(position.tolist())
        assert counts[at] == sum(holds(indices, at) for indices in slices)


@settings(max_examples=60, deadline=None)
@given(sliced())
def test_what_is_taken_and_put_back_unchanged_changes_nothing(case):
    found, slices = case
    tensor = numbered(found)
    mean = OverlapMean({"w": tensor})
    for indices in slices:
        mean.add("w", indices, take(tensor, indices))
    assert torch.equal(mean.result()["w"], tensor)


@settings(max_examples=60, deadline=None)
@given(sliced(), st.floats(-3, 3, width=32))
def test_what_is_put_in_comes_out_and_nothing_else_moves(case, shift):
    found, slices = case
    tensor, indices = numbered(found), slices[0]
    mean = OverlapMean({"w": tensor})
    part = take(tensor, indices) + shift
    mean.add("w", indices, part)
    after = mean.result()["w"]
    assert torch.equal(take(after, indices), part)
    outside = mean.weights("w") == 0
    assert torch.equal(after[outside], tensor[outside])


@settings(max_examples=60, deadline=None)
@given(axes, st.data(), st.integers(-20, 20))
def test_a_slice_holds_distinct_positions_of_the_dimension(axis, data, offset):
    size = data.draw(st.integers(1, axis.channels)) * axis.outer * axis.inner
    held = axis.held(size, offset)
    positions = range(axis.size) if held is None else held.tolist()
    assert len(set(positions)) == len(list(positions)) == size
    assert set(positions) <= set(range(axis.size))


@given(st.integers(1, 40), st.data(), st.sampled_from([1, -1]), st.integers(0, 1000))
def test_in_n_rounds_a_window_of_k_covers_each_of_n_channels_k_times(channels, data, direction, first_round):
    count = data.draw(st.integers(1, channels))
    rounds = range(first_round, first_round + channels)
    seen = torch.cat([window(channels, count, direction * number) for number in rounds])
    assert torch.bincount(seen, minlength=channels).tolist() == [count] * channels

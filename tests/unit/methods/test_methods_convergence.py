"""Effective movement and its stopping rule."""

import pytest
import torch

from neulite_sim.methods.convergence import Convergence, Movement, effective_movement, slope


@pytest.mark.parametrize(
    ("trajectory", "expected"),
    [
        ([[0, 0], [1, 2], [2, 4], [3, 6]], 1.0),
        ([[0, 0], [1, 2], [0, 0], [1, 2]], 1 / 3),
        ([[0, 0], [1, 1], [2, 0], [3, 1]], 2 / 3),
        ([[5, 5], [5, 5], [5, 5]], 0.0),
    ],
)
def test_effective_movement_matches_the_reference_sheet(trajectory, expected):
    assert effective_movement([torch.tensor(w, dtype=torch.float32) for w in trajectory]) == pytest.approx(expected)


def test_slope_is_that_of_the_least_squares_line():
    assert slope([0.0, 1.0, 2.0]) == pytest.approx(1.0)
    assert slope([1.0, 0.0, 1.0, 0.0]) == pytest.approx(-0.2)


def test_a_block_that_swings_around_a_point_converges_and_one_that_walks_on_does_not():
    rule = Convergence(window=2, evaluations=3, slope_threshold=0.05)
    swinging = walking = Movement()
    for step in range(8):
        swinging = swinging.seen(torch.tensor([float(step % 2)]), rule)
        walking = walking.seen(torch.tensor([float(2**step if step % 2 else -step)]), rule)
    # 2 snapshots fill the window, 3 values the line, and it must be flat 3 times in a row: 2 + 3 + 2 rounds.
    assert swinging.has_converged(rule)
    assert not Movement().seen(torch.tensor([0.0]), rule).has_converged(rule)
    assert len(swinging.snapshots) == rule.window + 1


def test_a_block_is_frozen_after_max_rounds_at_the_latest():
    rule = Convergence(max_rounds=2)
    movement = Movement().seen(torch.zeros(1), rule)
    assert not movement.has_converged(rule)
    assert movement.seen(torch.ones(1), rule).has_converged(rule)

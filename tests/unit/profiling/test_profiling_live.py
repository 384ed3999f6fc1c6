"""Live memory after each operator of a step: what the figures of the paper are drawn from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from neulite_sim.profiling.tracer import trace_steps


def traced(*layers: nn.Module):
    """Return the tracer of a step of layers on eight rows of four numbers; SGD with momentum."""
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batch = (torch.randn(8, 4), torch.arange(8) % 2)
    return trace_steps(model, optimizer, lambda images, labels: F.cross_entropy(model(images), labels), batch)


def test_the_highest_of_the_live_totals_is_the_peak():
    tracer = traced(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
    assert max(operator.live_bytes for operator in tracer.operators) == tracer.peak.total


def test_the_first_operator_lives_beside_weights_momentum_and_batch_and_the_last_beside_gradients():
    """A linear layer of 4 to 2: ten floats of weights; its step starts without gradients and ends with them."""
    tracer = traced(nn.Linear(4, 2))
    batch = 8 * 4 * 4 + 8 * 8
    weights = 10 * 4
    first, last = tracer.operators[0], tracer.operators[-1]
    # Weights, momentum, batch, and what the layer puts out: 8 rows of 2 floats.
    assert first.live_bytes == 2 * weights + batch + 8 * 2 * 4
    assert last.live_bytes == 3 * weights + batch

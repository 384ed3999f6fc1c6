"""What operators compute, by oracles worked out by hand: two operations per multiplication and addition."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from neulite_sim.profiling.roofline import OperatorKind
from neulite_sim.profiling.tracer import OperatorCost, StepTracer


def operators_of(layer: nn.Module, images: torch.Tensor) -> dict[str, OperatorCost]:
    with StepTracer() as tracer:
        layer(images).sum().backward()
    return {item.name: item for item in tracer.operators}


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_each_gradient_of_a_convolution_costs_its_forward_pass(groups: int, kind: type[nn.Conv2d]) -> None:
    layer = kind(8, 16, 3, padding=1, groups=groups, bias=False)
    found = operators_of(layer, torch.randn(2, 8, 5, 5, requires_grad=True))
    # Batch 2, 16 output channels of 5 x 5 pixels, each from 8 / groups channels through a 3 x 3 window.
    forward = 2 * 2 * 16 * 5 * 5 * (8 // groups) * 3 * 3
    assert found["convolution"].flops == forward
    assert found["convolution_backward"].flops == 2 * forward
    expected = (
        [OperatorKind.CONVOLUTION, OperatorKind.CONVOLUTION]
        if groups == 1
        else [OperatorKind.GROUPED, OperatorKind.GROUPED_BACKWARD]
    )
    assert [found[name].kind for name in ("convolution", "convolution_backward")] == expected


@pytest.mark.parametrize(("window", "groups"), [(1, 1), (1, 8), (3, 1)])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_window_of_one_point_is_a_kind_of_its_own_forward(window: int, groups: int, dimensions: int) -> None:
    layer = (nn.Conv1d, nn.Conv2d)[dimensions - 1](8, 16, window, groups=groups, bias=False)
    found = operators_of(layer, torch.randn(2, 8, *[5] * dimensions, requires_grad=True))
    is_alone = window == groups == 1
    assert (found["convolution"].kind == OperatorKind.POINTWISE) == is_alone
    assert found["convolution_backward"].kind != OperatorKind.POINTWISE


def test_a_gradient_nobody_needs_costs_nothing() -> None:
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
    found = operators_of(layer, torch.randn(2, 4, 5, 5))
    assert found["convolution_backward"].flops == found["convolution"].flops == 2 * 2 * 4 * 25 * 9


def test_fused_attention_on_a_cpu_is_counted() -> None:
    query, key, value = (torch.randn(2, 3, 7, 4, requires_grad=True) for _ in range(3))
    with StepTracer() as tracer:
        scaled_dot_product_attention(query, key, value).sum().backward()
    flops = {item.name: item.flops for item in tracer.operators if "attention" in item.name}
    if not flops:
        pytest.skip("this PyTorch has no fused attention on a CPU")
    # Scores and their product with the values: 2 batches, 3 heads, 7 x 7 places, 4 numbers each.
    product = 2 * 2 * 3 * 7 * 7 * 4
    forward, backward = sorted(flops.values())
    assert forward == 2 * product
    assert backward == 5 * product  # the scores once more, and a gradient of each of the four factors


def test_everything_else_is_of_no_special_kind() -> None:
    found = operators_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.randn(2, 3, 2, 2))
    assert {item.kind for item in found.values()} == {OperatorKind.OTHER}

"""Seconds of operators on a device: a roofline per operator and a fixed overhead each.

    seconds = max(operations / (peak * efficiency), bytes / (bandwidth * share)) + overhead

(Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.) Efficiency and share belong to the device and to the
kind of operator, because libraries are not equally good at all: a convolution is not a matrix product, and one with a
group per channel (depthwise) has next to nothing to compute and is still the slowest of all on many machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Floats
from neulite_sim.population.hardware.contract import DeviceClass

Kinds = NDArray[np.int8]


class OperatorKind(IntEnum):
    """What an operator is to the time model."""

    OTHER = 0
    """Matrix products, and everything that has no arithmetic to speak of: normalisation, activations, additions."""
    CONVOLUTION = 1
    """A convolution of one group, in both directions."""
    GROUPED = 2
    """A convolution of several groups, depthwise ones among them, forward."""
    POINTWISE = 3
    """A convolution of one group whose window is one point, forward: libraries have other kernels for it."""
    GROUPED_BACKWARD = 4
    """The gradients of a convolution of several groups, which few libraries have a fast kernel for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a device sustains, by kind of operator: operations per second, bytes per second, seconds per operator."""

    flops_per_second: Floats
    bytes_per_second: Floats
    overhead_s: float


def rates_of(device: DeviceClass) -> Rates:
    """Return the rates of a device: arrays `[5]` over `OperatorKind`.

    Where the device does not say, convolutions reach the efficiency of matrix products, those of one point the one of
    all convolutions, memory its whole bandwidth, and grouped convolutions the bandwidth of everything else, in both
    directions. Where it gives their gradients a rate of arithmetic, that and the bandwidth of everything else bound
    them.
    """
    convolution = device.convolution_efficiency or device.efficiency
    pointwise = device.pointwise_efficiency or convolution
    gradients = device.grouped_backward_efficiency or convolution
    share = device.bandwidth_efficiency or 1.0
    grouped_share = device.grouped_bandwidth_efficiency or share
    gradients_share = grouped_share if device.grouped_backward_efficiency is None else share
    efficiencies = np.array([device.efficiency, convolution, convolution, pointwise, gradients])
    shares = np.array([share, share, grouped_share, share, gradients_share])
    return Rates(
        flops_per_second=device.peak_flops_per_second * efficiencies,
        bytes_per_second=device.memory_bytes_per_second * shares,
        overhead_s=device.operator_overhead_s,
    )


def operators_s(
    flops: Floats, num_bytes: Floats, kinds: Kinds | None, rates: Rates, batch_share: float = 1.0
) -> Floats:
    """Return seconds of each operator, without its overhead; see `step_s`."""
    at = OperatorKind.OTHER if kinds is None else kinds
    compute_s = flops * (batch_share / rates.flops_per_second)[at]
    memory_s = num_bytes * (batch_share / rates.bytes_per_second)[at]
    return np.asarray(np.maximum(compute_s, memory_s))


def step_s(
    flops: Floats,
    num_bytes: Floats,
    kinds: Kinds | None,
    rates: Rates,
    batch_share: float = 1.0,
    *,
    counts: Floats | None = None,
) -> float:
    """Return seconds of a step with these operators, columns `[operators]`; all are `OTHER` where `kinds` is None.

    `batch_share` in (0, 1] charges a smaller batch: operations and bytes shrink with it, the overhead does not.
    `counts` is how often each happens in the step, once where it is None.
    """
    seconds = operators_s(flops, num_bytes, kinds, rates, batch_share)
    if counts is None:
        return float(seconds.sum()) + rates.overhead_s * len(flops)
    return float((seconds * counts).sum()) + rates.overhead_s * float(counts.sum())

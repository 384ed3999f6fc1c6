"""Fits the constants of the time model to measured steps, and judges the fit on networks it has not seen.

The squared differences of the logarithms of predicted and measured seconds are minimised over the logarithms of the
constants (Levenberg 1944; Marquardt 1963, eq. 31), so that every constant stays positive and a network of a second
counts as much as one of a minute. A weak pull towards `start` keeps where it is what the measurements do not show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

import numpy as np

from neulite_sim.arrays import Floats
from neulite_sim.profiling.roofline import Kinds, OperatorKind, Rates, step_s

_PULL = 1e-2
"""Weight of a squared log distance from the start, beside one of a squared log error of each measurement."""
_MAX_STEPS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Seconds of one step, and its operators as a `Profile` has them. Networks of one `network` are left out together.

    `what` tells the steps of a network apart: full training or head only, a batch size.
    """

    network: str
    what: str
    seconds: float
    flops: Floats
    num_bytes: Floats
    kinds: Kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What is fitted: shares of a device's peak and bandwidth by kind of operator, seconds per operator and per step.

    `step_overhead_s` takes up what a measurement holds beside its operators, loading of data for example.
    """

    efficiency: float
    convolution_efficiency: float
    bandwidth_efficiency: float
    grouped_bandwidth_efficiency: float
    operator_overhead_s: float
    step_overhead_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The two peaks that the shares are shares of."""

    peak_flops_per_second: float
    memory_bytes_per_second: float


Predictor = Callable[[Measurement, Constants, Machine], float]
"""A time model: seconds of a measurement's step."""


def roofline(step: Measurement, constants: Constants, machine: Machine) -> float:
    """Return seconds by the roofline per operator that devices are charged by, and the overhead of the step."""
    efficiency, convolution = constants.efficiency, constants.convolution_efficiency
    share, grouped = constants.bandwidth_efficiency, constants.grouped_bandwidth_efficiency
    rates = Rates(
        flops_per_second=machine.peak_flops_per_second * np.array([efficiency, convolution, convolution]),
        bytes_per_second=machine.memory_bytes_per_second * np.array([share, share, grouped]),
        overhead_s=constants.operator_overhead_s,
    )
    return step_s(step.flops, step.num_bytes, step.kinds, rates) + constants.step_overhead_s


def plain_roofline(step: Measurement, constants: Constants, machine: Machine) -> float:
    """Return seconds where every kind of operator has the same two rates; the start of this project's model."""
    same = replace(
        constants,
        convolution_efficiency=constants.efficiency,
        grouped_bandwidth_efficiency=constants.bandwidth_efficiency,
    )
    return roofline(step, same, machine)


def flops_only(step: Measurement, constants: Constants, machine: Machine) -> float:
    """Return the step's operations at one rate: what most simulators charge."""
    return float(step.flops.sum()) / (machine.peak_flops_per_second * constants.efficiency)


def bytes_only(step: Measurement, constants: Constants, machine: Machine) -> float:
    """Return the step's traffic at one rate."""
    return float(step.num_bytes.sum()) / (machine.memory_bytes_per_second * constants.bandwidth_efficiency)


def fit(
    measurements: Sequence[Measurement],
    machine: Machine,
    start: Constants,
    *,
    held: Sequence[str] = (),
    predict: Predictor = roofline,
) -> Constants:
    """Return the constants that predict the measurements best; those named in `held` stay as in `start`.

    Constants that are zero in `start` stay zero: a logarithm cannot leave it. The answer depends on `start` where the
    measurements leave a constant open.
    """
    names = [item.name for item in fields(Constants) if item.name not in held and getattr(start, item.name) > 0]
    origin = np.log([getattr(start, name) for name in names])
    measured = np.log([step.seconds for step in measurements])

    def constants_at(point: Floats) -> Constants:
        return replace(start, **dict(zip(names, np.exp(point).tolist(), strict=True)))

    def residuals(point: Floats) -> Floats:
        found = constants_at(point)
        predicted = np.log([predict(step, found, machine) for step in measurements])
        return np.concatenate([predicted - measured, np.sqrt(_PULL) * (point - origin)])

    return constants_at(_least_squares(residuals, origin))


def _least_squares(residuals: Callable[[Floats], Floats], point: Floats) -> Floats:
    """Return where the sum of squared residuals is least, near `point`, with numerical derivatives."""
    step_size, damping = 1e-4, 1e-3
    here = residuals(point)
    for _ in range(_MAX_STEPS):
        shifts = step_size * np.eye(len(point))
        slopes = np.stack([(residuals(point + shift) - here) / step_size for shift in shifts], axis=1)
        normal = slopes.T @ slopes + damping * np.eye(len(point))
        # More than a factor of e^2 in one step is a guess beyond what the slopes know.
        move = np.clip(-np.linalg.solve(normal, slopes.T @ here), -2.0, 2.0)
        there = residuals(point + move)
        gain = float(here @ here - there @ there)
        if gain <= 0:
            damping *= 5
            if damping > 1e9:
                break
            continue
        is_settled = gain < 1e-8 * float(here @ here)
        point, here, damping = point + move, there, max(damping / 5, 1e-9)
        if is_settled:
            break
    return point


def left_out(
    measurements: Sequence[Measurement],
    machine: Machine,
    start: Constants,
    *,
    held: Sequence[str] = (),
    predict: Predictor = roofline,
) -> Floats:
    """Return seconds predicted for each measurement by constants fitted without any measurement of its network."""
    predicted = np.zeros(len(measurements))
    for network in dict.fromkeys(step.network for step in measurements):
        known = [step for step in measurements if step.network != network]
        constants = fit(known, machine, start, held=held, predict=predict)
        for place, step in enumerate(measurements):
            if step.network == network:
                predicted[place] = predict(step, constants, machine)
    return predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How far predictions are from measurements: relative errors as shares, and how well they order the steps.

    `spearman` is in [-1, 1], NaN where all are equal.
    """

    count: int
    median_error: float
    p90_error: float
    spearman: float

    def to_json(self) -> Mapping[str, float]:
        """Return plain values by name."""
        return asdict(self)


def quality(predicted: Floats, measured: Floats) -> Quality:
    """Return the quality of predictions: |predicted - measured| / measured, at its median and 90th percentile."""
    errors = np.abs(predicted - measured) / measured
    return Quality(
        count=len(errors),
        median_error=float(np.median(errors)),
        p90_error=float(np.quantile(errors, 0.9)),
        spearman=spearman(predicted, measured),
    )


def spearman(first: Floats, second: Floats) -> float:
    """Return Spearman's rank correlation, equal values sharing the mean of their ranks (Spearman 1904)."""
    ranks = np.stack([_ranks(first), _ranks(second)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return float("nan")
    left, right = ranks - ranks.mean(axis=1, keepdims=True)
    return float(left @ right / np.sqrt((left @ left) * (right @ right)))


def _ranks(values: Floats) -> Floats:
    _, positions, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks: Floats = np.cumsum(counts) - (counts - 1) / 2
    return mean_ranks[positions]


def share_of(step: Measurement, kind: OperatorKind, constants: Constants, machine: Machine) -> float:
    """Return the share of the predicted seconds, in [0, 1], that operators of one kind take, overheads included."""
    at = step.kinds == kind
    only = replace(step, flops=step.flops[at], num_bytes=step.num_bytes[at], kinds=step.kinds[at])
    return roofline(only, replace(constants, step_overhead_s=0.0), machine) / roofline(step, constants, machine)

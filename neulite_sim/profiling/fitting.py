"""Fits the constants of the time model to measured steps, and judges the fit on networks and boards it has not seen.

The boards of a family are fitted together. What their chips and their framework share is the shape: how the rates of
the kinds of operators compare. A board adds one speed, and a departure for each constant, both drawn towards what its
data sheet says, so a board with one point moves as a whole and one with none is where the others put it. The squared
differences of the logarithms of predicted and measured seconds are minimised over the logarithms of the constants
(SciPy's trust region), so every constant is positive, and a network of a second counts as much as one of a minute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

import numpy as np
from scipy.optimize import least_squares

from neulite_sim.arrays import Floats, Integers
from neulite_sim.profiling.roofline import Kinds, OperatorKind, Rates, operators_s

Z_95 = 1.959964
"""Standard deviations from the middle of a normal distribution to either end of its middle 95 %."""


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
    counts: Floats | None = None
    """How often each operator happens in the step; once where it is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What is fitted: shares of a device's peak and bandwidth by kind of operator, seconds per operator and per step.

    `step_overhead_s` takes up what a measurement holds beside its operators, loading of data for example.
    """

    efficiency: float
    convolution_efficiency: float
    pointwise_efficiency: float
    bandwidth_efficiency: float
    grouped_bandwidth_efficiency: float
    grouped_backward_efficiency: float
    operator_overhead_s: float
    step_overhead_s: float


_OF_BANDWIDTH = ("bandwidth_efficiency", "grouped_bandwidth_efficiency")
_SECONDS = ("operator_overhead_s", "step_overhead_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The two peaks that the shares are shares of."""

    peak_flops_per_second: float
    memory_bytes_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One machine and the steps measured on it; none where only its data sheet is known."""

    name: str
    machine: Machine
    steps: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How far things are apart before anything is measured, as standard deviations of logarithms.

    `noise` is that of a measurement beside its prediction, `start` of the first board's constants beside the start
    (`overhead` of its seconds per operator), `speed` of a board beside its data sheet and `own` of each of its
    constants beside its speed.

    `mixing` in [0, 1] says what a data sheet tells: at 0 arithmetic goes with the peak and traffic with the bandwidth,
    at 0.5 both with the geometric mean of the two, as where arithmetic waits for memory.
    """

    noise: float = 0.1
    start: float = 1.0
    overhead: float = 1.0
    speed: float = 0.3
    own: float = 0.15
    mixing: float = 0.5


SPREAD = Spread()
_UNBOUNDED: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The constants of a board with their 95 % intervals, which hold what is open before measuring as well."""

    constants: Constants
    low: Constants
    high: Constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The operators of many steps, one after the other; those of the i-th begin at `starts[i]`."""

    flops: Floats
    num_bytes: Floats
    kinds: Kinds
    counts: Floats
    starts: Integers

    @classmethod
    def of(cls, steps: Sequence[Measurement]) -> Steps:
        """Return the operators of measured steps; of each there must be some."""
        lengths = np.array([len(step.flops) for step in steps], np.int64)
        counts = [np.ones(len(step.flops)) if step.counts is None else step.counts for step in steps]
        return cls(
            flops=np.concatenate([np.zeros(0), *(step.flops for step in steps)]),
            num_bytes=np.concatenate([np.zeros(0), *(step.num_bytes for step in steps)]),
            kinds=np.concatenate([np.zeros(0, np.int8), *(step.kinds for step in steps)]),
            counts=np.concatenate([np.zeros(0), *counts]),
            starts=np.cumsum(lengths) - lengths,
        )

    def summed(self, of_operators: Floats) -> Floats:
        """Return the total of each step of a column, every operator as often as it happens."""
        if not len(self.starts):
            return np.zeros(0)
        return np.asarray(np.add.reduceat(of_operators * self.counts, self.starts))


Predictor = Callable[[Steps, Constants, Machine], Floats]
"""A time model: seconds of each step."""


def roofline(steps: Steps, constants: Constants, machine: Machine) -> Floats:
    """Return seconds by the roofline per operator that devices are charged by, and the overhead of the step."""
    convolution, share = constants.convolution_efficiency, constants.bandwidth_efficiency
    efficiencies = (
        constants.efficiency, convolution, convolution, constants.pointwise_efficiency,
        constants.grouped_backward_efficiency,
    )  # fmt: skip
    shares = (share, share, constants.grouped_bandwidth_efficiency, share, share)
    rates = Rates(
        flops_per_second=machine.peak_flops_per_second * np.array(efficiencies),
        bytes_per_second=machine.memory_bytes_per_second * np.array(shares),
        overhead_s=constants.operator_overhead_s,
    )
    seconds = operators_s(steps.flops, steps.num_bytes, steps.kinds, rates) + rates.overhead_s
    return steps.summed(seconds) + constants.step_overhead_s


def four_rates(steps: Steps, constants: Constants, machine: Machine) -> Floats:
    """Return seconds where convolutions of one point and gradients of grouped ones are nothing special."""
    return roofline(replace(steps, kinds=_FEWER_KINDS[steps.kinds]), constants, machine)


_FEWER_KINDS = np.array([0, 1, 2, 1, 2], np.int8)
"""By `OperatorKind`: the kind of which one counts there."""


def plain_roofline(steps: Steps, constants: Constants, machine: Machine) -> Floats:
    """Return seconds where every kind of operator has the same two rates; the start of this project's model."""
    return roofline(replace(steps, kinds=np.zeros_like(steps.kinds)), constants, machine)


def flops_only(steps: Steps, constants: Constants, machine: Machine) -> Floats:
    """Return the steps' operations at one rate: what most simulators charge."""
    return steps.summed(steps.flops) / (machine.peak_flops_per_second * constants.efficiency)


def bytes_only(steps: Steps, constants: Constants, machine: Machine) -> Floats:
    """Return the steps' traffic at one rate."""
    return steps.summed(steps.num_bytes) / (machine.memory_bytes_per_second * constants.bandwidth_efficiency)


def fit_boards(
    boards: Sequence[Board],
    start: Constants,
    *,
    held: Sequence[str] = (),
    predict: Predictor = roofline,
    spread: Spread = SPREAD,
    most: Mapping[str, float] = _UNBOUNDED,
) -> dict[str, Fitted]:
    """Return the constants of each board by its name, all fitted together; `start` is about the first of them.

    Constants named in `held`, and those that are zero in `start`, stay as the start has them. `most` bounds constants
    of the first board from above. Where the measurements leave a constant open, the answer is the start's.
    """
    family = _Family(boards, start, held, spread)
    measured = [np.log([step.seconds for step in board.steps]) for board in boards]
    columns = [Steps.of(board.steps) for board in boards]

    def residuals(point: Floats) -> Floats:
        errors = [(point - family.origin) / family.spreads]
        for board, steps, seconds in zip(boards, columns, measured, strict=True):
            predicted = predict(steps, family.constants(board, point), board.machine)
            errors.append((np.log(predicted) - seconds) / spread.noise)
        return np.concatenate(errors)

    highest = np.full(len(family.origin), np.inf)
    for place, name in enumerate(family.names):
        if name in most:
            highest[place] = math.log(most[name])
    origin = np.minimum(family.origin, highest - 1e-6)
    found = least_squares(residuals, origin, bounds=(-np.inf, highest), ftol=1e-6, xtol=1e-6)
    covariance = _covariance(found.jac, found.fun, family, boards)
    return {board.name: family.fitted(board, found.x, covariance) for board in boards}


class _Family:
    """Where the logarithms of all boards' constants stand in one vector: the shape, then each board's own."""

    def __init__(self, boards: Sequence[Board], start: Constants, held: Sequence[str], spread: Spread) -> None:
        self.start = start
        self.names = [item.name for item in fields(Constants) if item.name not in held and getattr(start, item.name)]
        self._reference = boards[0].machine
        self._mixing = spread.mixing
        self._places = {board.name: place for place, board in enumerate(boards)}
        count = len(self.names)
        self._signs = np.array([-1.0 if name in _SECONDS else 1.0 for name in self.names])
        others = len(boards) - 1
        first = np.log([getattr(start, name) for name in self.names])
        self.origin = np.concatenate([first, np.zeros(others * (count + 1))])
        own = np.concatenate([[spread.speed], np.full(count, spread.own)])
        of_first = [spread.overhead if name == "operator_overhead_s" else spread.start for name in self.names]
        self.spreads = np.concatenate([of_first, np.tile(own, others)])

    def _expected(self, machine: Machine) -> Floats:
        """Return how much larger the logarithm of each constant is on a machine, by the two data sheets."""
        peak = math.log(machine.peak_flops_per_second / self._reference.peak_flops_per_second)
        memory = math.log(machine.memory_bytes_per_second / self._reference.memory_bytes_per_second)
        mean, mixing = (peak + memory) / 2, self._mixing
        by_name = dict.fromkeys(_OF_BANDWIDTH, mixing * (peak - memory)) | dict.fromkeys(_SECONDS, -2 * mixing * mean)
        return np.array([by_name.get(name, mixing * (memory - peak)) for name in self.names])

    def _row(self, board: Board) -> tuple[Floats, Floats]:
        """Return matrix and offset by which the logarithms of a board's constants follow from the vector."""
        count, place = len(self.names), self._places[board.name]
        matrix = np.zeros((count, len(self.origin)))
        matrix[:, :count] = np.eye(count)
        if not place:
            return matrix, np.zeros(count)
        first = count + (place - 1) * (count + 1)
        matrix[:, first] = self._signs
        matrix[:, first + 1 : first + 1 + count] = np.eye(count)
        return matrix, self._expected(board.machine)

    def constants(self, board: Board, point: Floats) -> Constants:
        matrix, offset = self._row(board)
        return self._named(matrix @ point + offset)

    def fitted(self, board: Board, point: Floats, covariance: Floats) -> Fitted:
        matrix, offset = self._row(board)
        middle = matrix @ point + offset
        away = Z_95 * np.sqrt(np.einsum("ij,jk,ik->i", matrix, covariance, matrix))
        return Fitted(constants=self._named(middle), low=self._named(middle - away), high=self._named(middle + away))

    def _named(self, logarithms: Floats) -> Constants:
        return replace(self.start, **dict(zip(self.names, np.exp(logarithms).tolist(), strict=True)))


def _covariance(jacobian: Floats, residuals: Floats, family: _Family, boards: Sequence[Board]) -> Floats:
    """Return the covariance of the vector: that of the linearised problem.

    Errors that are larger than the noise supposed count as they are, and all steps of a network as one: what the model
    gets wrong about a network it gets wrong in each of its steps.
    """
    priors = len(family.origin)
    told, seen = jacobian[:priors], jacobian[priors:]
    num_steps = max(1, len(seen))
    num_networks = len({step.network for board in boards for step in board.steps}) or 1
    noise = max(1.0, float(np.square(residuals[priors:]).sum()) / num_steps) * num_steps / num_networks
    return np.asarray(np.linalg.inv(told.T @ told + seen.T @ seen / noise))


def fit(
    measurements: Sequence[Measurement],
    machine: Machine,
    start: Constants,
    *,
    held: Sequence[str] = (),
    predict: Predictor = roofline,
    spread: Spread = SPREAD,
    most: Mapping[str, float] = _UNBOUNDED,
) -> Fitted:
    """Return the constants of one machine that predict its measurements best; see `fit_boards`."""
    board = Board(name="", machine=machine, steps=tuple(measurements))
    return fit_boards([board], start, held=held, predict=predict, spread=spread, most=most)[""]


def networks_left_out(
    boards: Sequence[Board],
    start: Constants,
    *,
    held: Sequence[str] = (),
    predict: Predictor = roofline,
    spread: Spread = SPREAD,
) -> dict[str, Floats]:
    """Return by board the seconds of each of its steps, by constants fitted without its network on any board."""
    predicted = {board.name: np.zeros(len(board.steps)) for board in boards}
    for network in dict.fromkeys(step.network for board in boards for step in board.steps):
        known = [
            replace(board, steps=tuple(step for step in board.steps if step.network != network)) for board in boards
        ]
        found = fit_boards(known, start, held=held, predict=predict, spread=spread)
        for board in boards:
            at = [place for place, step in enumerate(board.steps) if step.network == network]
            unseen = Steps.of([board.steps[place] for place in at])
            predicted[board.name][at] = predict(unseen, found[board.name].constants, board.machine)
    return predicted


def boards_left_out(
    boards: Sequence[Board],
    start: Constants,
    *,
    held: Sequence[str] = (),
    predict: Predictor = roofline,
    spread: Spread = SPREAD,
) -> dict[str, Floats]:
    """Return by board the seconds of its steps, by the other boards' measurements and its data sheet alone."""
    predicted = {}
    for board in boards:
        known = [replace(other, steps=()) if other.name == board.name else other for other in boards]
        found = fit_boards(known, start, held=held, predict=predict, spread=spread)[board.name]
        predicted[board.name] = predict(Steps.of(board.steps), found.constants, board.machine)
    return predicted


def left_out(
    measurements: Sequence[Measurement],
    machine: Machine,
    start: Constants,
    *,
    held: Sequence[str] = (),
    predict: Predictor = roofline,
    spread: Spread = SPREAD,
) -> Floats:
    """Return seconds predicted for each measurement by constants fitted without any measurement of its network."""
    board = Board(name="", machine=machine, steps=tuple(measurements))
    return networks_left_out([board], start, held=held, predict=predict, spread=spread)[""]


def share_of(step: Measurement, kind: OperatorKind, constants: Constants, machine: Machine) -> float:
    """Return the share of the predicted seconds, in [0, 1], that operators of one kind take, overheads included."""
    every = Steps.of([step])
    only = replace(every, counts=np.where(every.kinds == kind, every.counts, 0.0))
    part = roofline(only, replace(constants, step_overhead_s=0.0), machine)
    return float(part[0] / roofline(every, constants, machine)[0])

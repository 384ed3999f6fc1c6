"""CoCoFL: each device trains a run of consecutive blocks; those before and behind it are frozen.

K. Pfeiffer, M. Rapp, R. Khalili and J. Henkel, "CoCoFL: Communication- and Computation-Aware Federated Learning via
Partial NN Freezing and Quantization", TMLR 2023, https://arxiv.org/abs/2203.05468; facts below are those of the
authors' code (k1l1/CoCoFL). Of the runs whose step a device holds, those count that are part of no longer one that it
holds, and one of them is drawn in each round. Frozen blocks before the run are only applied; through those behind it
gradients pass (`frozen_around.py`). A device sends back what it trained. The server takes each tensor for the mean over
all devices of the round, in which those that did not train it count with what they were sent (the paper's algorithm 2):
r mean + (1 - r) old, with the share r of the devices that trained it.

The run of a round and device is drawn from the stream (seed, "trained-run", version of the model, device).

Where this differs from the authors' code: blocks are those of NeuLite's stages, so that both are on one footing. There
a residual block, the stem and the classifier are blocks of their own; here the stem belongs to the first and the head
to the last. Memory decides which runs fit, there seconds and bytes sent do as well. Frozen layers are computed in 8 bit
there; here in full, because no speeds of boards in 8 bit are known, so that time is overestimated where a board would
gain by it. What their weights take is for `training.frozen_weights` to say (matrices of linear layers). A frozen
BatchNorm is folded into its convolution there, and here an operator of its own, which keeps as little.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Flags, Integers
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.later import Tensor
from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.contract import Method, Proposal, Setting, State, Update, Weighting
from neulite_sim.methods.offering import offer_chosen
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options
from neulite_sim.seeding import uniforms

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee

MOST_BLOCKS = 16
"""Of a model: each of its runs of blocks is profiled, and these have 136."""
STAGE = "runs of blocks"
Run = tuple[int, int]
"""The first block of a run and the one behind its last, counted from 0."""


class CoCoFLOptions(Options):
    """Options of `cocofl`; the defaults are those of the authors' code."""

    choice: Literal["random", "most"] = "random"
    """Which run a device trains: drawn anew in each round among those that fit and are part of no longer one that does,
    or of those that fit the one with most weights."""
    weighting: Weighting = "uniform"
    """`samples` weighs an update by the device's samples, `uniform` weighs all alike."""


class CoCoFL(Method):
    """A run of blocks on each device, drawn among the longest that it holds."""

    def __init__(self, options: CoCoFLOptions, runs: Mapping[str, Run], seed: int) -> None:
        self._options = options
        self._runs = dict(runs)
        self._seed = seed
        self.submodels = tuple(runs)

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the mean: `digest` needs nothing else of the updates."""
        return self._options.weighting

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the full model, or the one with frozen blocks around a run."""
        from neulite_sim.methods.frozen_around import FrozenAround
        from neulite_sim.models.trainee import FullModel

        return FullModel(blueprint) if submodel == FULL else FrozenAround(blueprint, *self._runs[submodel])

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised model."""
        from neulite_sim.models.trainee import float_tensors

        return State(version=0, tensors=float_tensors(blueprint.build_seeded(seed)))

    def offers(self, state: State, ledger: Ledger, candidates: Integers) -> Proposal:
        """Return for each candidate the offer of its run in the round of this version."""
        fits = {run: ledger.fits(name)[candidates] for name, run in self._runs.items()}
        if self._options.choice == "most":
            chosen = drawn_among(list(fits.values()), np.zeros(len(candidates)))
        else:
            drawn = uniforms(self._seed, "trained-run", np.full_like(candidates, state.version), candidates)
            chosen = drawn_among(list(longest_runs(fits).values()), drawn)
        holds_none = bool((chosen < 0).any())
        smallest = min(self.submodels, key=ledger.least_peak_bytes) if holds_none else self.submodels[-1]
        return offer_chosen(ledger, self.submodels, candidates, chosen, stage=STAGE, smallest=smallest)

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the whole model: what is frozen is applied as well."""
        return state.tensors

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return each tensor's mean over all updates, of which those without it count with what it is now."""
        weighting = self._options.weighting
        total, trained = 0.0, dict.fromkeys(state.tensors, 0.0)

        def counted() -> Iterator[Update]:
            nonlocal total
            for update in updates:
                total += update.weight(weighting)
                for name in update.tensors:
                    trained[name] += update.weight(weighting)
                yield update

        means = weighted_mean(counted(), weighting)
        mixed = {name: _mixed(state.tensors[name], mean, trained[name] / total) for name, mean in means.items()}
        return replace(state, version=state.version + 1, tensors=merged(state.tensors, mixed))


def _mixed(old: Tensor, mean: Tensor, share: float) -> Tensor:
    return mean if share == 1 else mean.double() * share + old.double() * (1 - share)


def longest_runs(fits: Mapping[Run, Flags]) -> dict[Run, Flags]:
    """Return for each run on which devices it fits and no longer one that contains it does."""
    held: dict[Run, Flags] = {}
    found = {}
    for first, end in sorted(fits, key=lambda run: run[0] - run[1]):
        wider = [held[run] for run in ((first - 1, end), (first, end + 1)) if run in held]
        covered = np.logical_or.reduce(wider) if wider else np.zeros_like(fits[first, end])
        found[first, end] = fits[first, end] & ~covered
        held[first, end] = fits[first, end] | covered
    return {run: found[run] for run in fits}


def drawn_among(flags: list[Flags], drawn: NDArray[np.float64]) -> NDArray[np.int16]:
    """Return for each device the place of one of its true flags, all equally likely for `drawn` in [0, 1).

    -1 where none is true. A `drawn` of 0 takes the first.
    """
    left = (drawn * np.sum(flags, axis=0)).astype(np.int64)
    chosen = np.full(len(drawn), -1, np.int16)
    for place, each in enumerate(flags):
        chosen[each & (left == 0) & (chosen < 0)] = place
        left -= each
    return chosen


def runs_of(num_blocks: int, weights: list[int]) -> dict[str, Run]:
    """Return all runs of blocks by their names, those with most weights first; all blocks are the full model."""
    runs = itertools.combinations(range(num_blocks + 1), 2)
    ordered = sorted(runs, key=lambda run: (-sum(weights[slice(*run)]), run))
    ordered.sort(key=lambda run: run != (0, num_blocks))
    return {_name_of(run, num_blocks): run for run in ordered}


def _name_of(run: Run, num_blocks: int) -> str:
    first, end = run
    if run == (0, num_blocks):
        return FULL
    return f"block-{end}" if end - first == 1 else f"blocks-{first + 1}-{end}"


def _build(options: CoCoFLOptions, setting: Setting) -> CoCoFL:
    num_blocks = setting.num_blocks
    if num_blocks == 1:
        finding = "cocofl freezes some blocks of a model, and this one has 1 block"
        hint = "use a model of at least 2 blocks, or method fedavg, which trains the same"
        raise ScenarioError([Problem.advising(key="method", found=finding, hint=hint)])
    if num_blocks > MOST_BLOCKS:
        finding = (
            f"cocofl profiles each run of consecutive blocks, and {num_blocks} blocks have "
            f"{num_blocks * (num_blocks + 1) // 2}"
        )
        hint = f"use at most {MOST_BLOCKS} blocks: models of many layers take model.blocks"
        raise ScenarioError([Problem.advising(key="method", found=finding, hint=hint)])
    weights = [1] * num_blocks
    if setting.charged is not None:
        model = setting.charged.look()
        weights = [sum(each.numel() for each in block.parameters()) for block in model.blocks]
        weights[-1] += sum(each.numel() for each in model.head.parameters())
    return CoCoFL(options, runs_of(num_blocks, weights), setting.seed)


COMPONENT = Component(
    kind="cocofl",
    summary="each device trains a run of consecutive blocks; gradients pass through the frozen ones behind it",
    source="Pfeiffer et al., CoCoFL, TMLR 2023, arXiv 2203.05468",
    options=CoCoFLOptions,
    build=_build,
)

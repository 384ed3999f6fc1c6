"""Who takes part in a memory-budget study: methods by name, each trained in one or several ways."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from neulite_sim import registry
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.scenario.loading import Check
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.sources import Source, scenario_from
from neulite_sim.scenario.sweep_files import load_sweep
from neulite_sim.scenario.yaml_text import read_yaml
from neulite_sim.studies.whatif import Entrant

FitKind = Literal["none", "auto"]
FEDAVG = "fedavg"
METHODS_OPTION, MICRO_OPTION = "--methods", "--micro-batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How a training step is taken, where it differs from what the scenario says; None leaves the scenario's own."""

    batch_size: int | None = None
    micro_batch_size: int | None = None
    checkpointing: bool | None = None
    fit: FitKind | None = None

    @property
    def label(self) -> str:
        """What a variant's name says about it; empty for the scenario's own way."""
        parts = [f"batch {self.batch_size}"] if self.batch_size is not None else []
        parts += [f"micro-batch {self.micro_batch_size}"] if self.micro_batch_size is not None else []
        parts += ["checkpointing"] if self.checkpointing else []
        return ", ".join([*parts, *(["fit auto"] if self.fit == "auto" else [])])

    def settings(self, scenario: Scenario) -> list[str]:
        """Return the `key=value` texts that give it to a scenario, under `workload` where that is what is charged."""
        workload, texts = scenario.workload, []
        for key in ("batch_size", "micro_batch_size", "checkpointing"):
            value = getattr(self, key)
            if value is not None:
                is_apart = workload.batch_size is not None or getattr(workload, key) is not None
                texts.append(f"{'workload' if is_apart else 'training'}.{key}={str(value).lower()}")
        if self.fit is not None and self.fit != scenario.training.fit.kind:
            texts += [f"training.fit={self.fit}", *(_left_to_plans(scenario) if self.fit == "auto" else [])]
        return texts


def _left_to_plans(scenario: Scenario) -> list[str]:
    """Return the texts that take back what a scenario says of all devices and each now has for itself."""
    none_of = {"training": "false", "workload": "null"}
    given = [
        (f"{section}.{key}", nothing)
        for section, options in (("training", scenario.training), ("workload", scenario.workload))
        for key, nothing in (("micro_batch_size", "null"), ("checkpointing", none_of[section]))
        if getattr(options, key)
    ]
    return [f"{key}={nothing}" for key, nothing in given]


def tunings(
    *,
    batch_sizes: Sequence[int] = (),
    micro_batch_sizes: Sequence[int] = (),
    checkpointing: bool = False,
    fits: Sequence[FitKind] = (),
) -> list[Tuning]:
    """Return every combination; micro-batches and checkpointing stand beside training without them.

    Where each device has its own, `fits` auto, there is nothing to combine but the batch.
    """
    batches: Sequence[int | None] = list(batch_sizes) or [None]
    micros: Sequence[int | None] = [None, *micro_batch_sizes]
    checkpoints: Sequence[bool | None] = [None, True] if checkpointing else [None]
    kinds: Sequence[FitKind | None] = [*fits] or [None]
    return [
        Tuning(batch_size=batch_size, micro_batch_size=micro, checkpointing=checkpoint, fit=fit)
        for batch_size, micro, checkpoint, fit in itertools.product(batches, micros, checkpoints, kinds)
        if fit != "auto" or (micro, checkpoint) == (None, None)
    ]


def entrants(
    source: Source,
    *,
    methods: str | None = None,
    overrides: Sequence[str] = (),
    ways: Sequence[Tuning] = (Tuning(),),
    checks: Sequence[Check] = (),
) -> tuple[list[Entrant], dict[str, str]]:
    """Return the methods of a study over a scenario, each in every way, and why some of them cannot be.

    Args:
        source: the scenario: a file, plain values or a scenario.
        methods: as in `--methods`: names, or mappings with options, separated by commas; all methods by default, the
            scenario's own first and with its options, and FedAvg with `training.fit: auto` beside them. A mapping with
            `fit` says how steps are fitted for this one, whatever the ways are.
        overrides: `key=value` texts; what they say about the method holds for the scenario's own method only.
        ways: how steps are taken; micro-batches that are larger than the batch are left out, with the reason.
        checks: those of `load_scenario`, called once, for the scenario itself.

    Raises:
        ScenarioError: the scenario, a method or its options are wrong, or no way is left.
    """
    base = scenario_from(source, overrides, checks=checks)
    others = [text for text in overrides if text.partition("=")[0].strip().split(".")[0] != "method"]
    found: list[Entrant] = []
    left_out: dict[str, str] = {}
    baseline = _baseline(source, base, others) if methods is None and all(way == Tuning() for way in ways) else None
    for name, setting, fit in _methods(source, base, methods):
        for way in ways if fit is None else dict.fromkeys(_fitted(way, fit) for way in ways):
            variant = f"{name}, {way.label}" if way.label else name
            if problem := _too_large(base, way):
                left_out[variant] = problem
                continue
            own = list(overrides) if setting is None else [*others, setting]
            scenario = _loaded(source, [*own, *way.settings(base)])
            found.append(Entrant(method=name, variant=variant, scenario=scenario))
        if baseline is not None:
            found.append(baseline)
            baseline = None
    names = [entrant.variant for entrant in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        hint = "give each of these methods a fit of its own, one none and one auto"
        raise ScenarioError([Problem.advising(key=METHODS_OPTION, found=f"two rows are called {twice!r}", hint=hint)])
    if not found:
        raise ScenarioError([Problem(key=MICRO_OPTION, message=next(iter(left_out.values())))])
    return found, left_out


def _baseline(source: Source, base: Scenario, overrides: Sequence[str]) -> Entrant | None:
    """Return FedAvg that fits its steps into memory: what every method has to beat; None where it is there anyway."""
    if base.training.fit.kind == "auto":
        return None
    way = Tuning(fit="auto")
    scenario = _loaded(source, [*overrides, f"method={FEDAVG}", *way.settings(base)])
    return Entrant(method=FEDAVG, variant=f"{FEDAVG}, {way.label}", scenario=scenario)


_Named = tuple[str, str | None, FitKind | None]
"""The name of a method, the setting that chooses it (None: the scenario's own as it stands), and its own fit."""


def _methods(source: Source, base: Scenario, methods: str | None) -> list[_Named]:
    own = base.method.kind
    if methods is None:
        others = [name for name in registry.names("method") if name != own]
        return [(base.method.label, None, None), *((name, f"method={name}", None) for name in others)]
    found: list[_Named] = []
    for text, fit in _by_fit(methods):
        try:
            axis = load_sweep(source, grid=[f"method={text}"]).axes[0]
        except ScenarioError as error:
            raise ScenarioError(replace(problem, key="", file=METHODS_OPTION) for problem in error.problems) from None
        texts = [setting.text for setting in axis.settings]
        found += [
            (slug, None if text == f'method="{own}"' else text, fit)
            for slug, text in zip(axis.slugs, texts, strict=True)
        ]
    return found


def _by_fit(methods: str) -> list[tuple[str, FitKind | None]]:
    """Return the methods in their order, neighbours of the same fit together; None where nothing is said of it."""
    node, problems = read_yaml(f"[{methods}]", METHODS_OPTION, with_lines=False)
    items = [] if node is None or problems else node.plain()
    if not any(isinstance(item, dict) and "fit" in item for item in items):
        return [(methods, None)]
    parts = [_fit_of(item) for item in items]
    return [
        (",".join(text for text, _ in group), fit) for fit, group in itertools.groupby(parts, key=lambda part: part[1])
    ]


def _fit_of(item: Any) -> tuple[str, FitKind | None]:
    if not isinstance(item, dict) or "fit" not in item:
        return json.dumps(item), None
    rest = {key: value for key, value in item.items() if key != "fit"}
    if item["fit"] not in get_args(FitKind):
        message = f"fit of {rest.get('kind')} must be none or auto, found {item['fit']!r}"
        raise ScenarioError([Problem(key="", file=METHODS_OPTION, message=message)])
    return json.dumps(rest if len(rest) > 1 else rest.get("kind")), item["fit"]


def _fitted(way: Tuning, fit: FitKind) -> Tuning:
    """Return a way with another fit; where each device has its own plan, there is no more than the batch to it."""
    if fit == "auto":
        return Tuning(batch_size=way.batch_size, fit=fit)
    return replace(way, fit=fit)


def _loaded(source: Source, overrides: Sequence[str]) -> Scenario:
    """Return the scenario; what is wrong with its method is said of `--methods`."""
    try:
        return scenario_from(source, overrides)
    except ScenarioError as error:
        raise ScenarioError(
            replace(problem, file=METHODS_OPTION) if problem.key.split(".")[0] == "method" else problem
            for problem in error.problems
        ) from None


def _too_large(base: Scenario, way: Tuning) -> str | None:
    batch_size = way.batch_size or base.workload.batch_size or base.training.batch_size
    if way.micro_batch_size is None or way.micro_batch_size <= batch_size:
        return None
    return (
        f"micro-batches of {way.micro_batch_size} are larger than the batch of {batch_size}; use 1 to {batch_size}, or "
        "a larger batch with --batch-sizes"
    )

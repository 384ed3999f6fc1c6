"""What runs are called in figures: their method as papers write it, and what else tells them apart."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neulite_sim.reports.comparison import Line
from neulite_sim.reports.plot_options import unknown_label

METHOD_NAMES: Mapping[str, str] = {
    "allsmall": "AllSmall", "cocofl": "CoCoFL", "depthfl": "DepthFL", "exclusivefl": "ExclusiveFL", "fedavg": "FedAvg",
    "federated-dropout": "Federated Dropout", "fedepth": "FeDepth", "fedra": "FedRA", "fedrolex": "FedRolex",
    "head-only": "Head only", "heterofl": "HeteroFL", "lora": "LoRA", "neulite": "NeuLite",
    "partial-variables": "Partial variables", "profl": "ProFL", "progfed": "ProgFed", "slt": "SLT",
    "zeroth-order": "Zeroth order", "zo-warmup": "ZOWarmUp",
}  # fmt: skip
"""Methods as their papers write them; any other is called as scenarios call it."""

_MOST_DIFFERENCES, _MOST_LETTERS = 2, 40
# What may differ between runs of one study without being what it is about; a seed is named by itself.
_BESIDE = ("name", "backend", "checkpoint", "evaluation", "stop", "data.root")


def method_name(kind: str) -> str:
    """Return what a method is called: NeuLite for `neulite`."""
    return METHOD_NAMES.get(kind, kind)


def variant_name(variant: str) -> str:
    """Return what a variant of a study is called: "FedAvg, fit auto" for "fedavg, fit auto"."""
    kind, *rest = variant.split(",", 1)
    return ",".join([method_name(kind), *rest])


def names_of(lines: Sequence[Line], given: Mapping[str, str] | None = None) -> list[str]:
    """Return what each line of a comparison is called in a figure.

    That is its name in `given` (under the line's name, that of one of its runs or its method's), or its method with
    what its scenario has otherwise than the other lines of that method; its own name where that is too much.

    Raises:
        ScenarioError: `given` names what no line is.
    """
    names = _own_names(lines)
    for wanted, label in (given or {}).items():
        found = [place for place, line in enumerate(lines) if wanted in _run_names(line)]
        found = found or [place for place, line in enumerate(lines) if line.same("method") == wanted]
        if not found:
            raise unknown_label(wanted, [line.name for line in lines])
        for place in found:
            names[place] = label
    return names


def _run_names(line: Line) -> set[str]:
    return {line.name, *(run.path.resolve().name for run in line.runs), *(str(run.path) for run in line.runs)}


def _own_names(lines: Sequence[Line]) -> list[str]:
    methods = [_method_of(line) for line in lines]
    names = []
    for line, method in zip(lines, methods, strict=True):
        alike = [other for other, its in zip(lines, methods, strict=True) if its == method]
        names.append(method if len(alike) == 1 else _with_differences(line, alike, method))
    return [name if names.count(name) == 1 else line.name for name, line in zip(names, lines, strict=True)]


def _method_of(line: Line) -> str:
    """Return the method of a line; where its devices fit their steps into memory, it is another one than without."""
    name = method_name(str(line.same("method")))
    fit = ((line.runs[0].scenario.get("training") or {}).get("fit") or {}).get("kind", "none")
    return name if fit == "none" else f"{name} (fit {fit})"


def _with_differences(line: Line, alike: Sequence[Line], method: str) -> str:
    """Return a method with what a line's scenario has otherwise than those of other lines of that method."""
    flat = [_cells(other) for other in alike]
    own = _cells(line)
    keys = sorted({key for cells in flat for key in cells if not _is_beside(key)})
    differing = [key for key in keys if len({cells.get(key) for cells in flat}) > 1]
    # Options of a component that others do not have say nothing beside its kind.
    kinds = [key.removesuffix(".kind") for key in differing if key.endswith(".kind")]
    told = [key for key in differing if not any(key.startswith(f"{kind}.") and key != f"{kind}.kind" for kind in kinds)]
    if line.is_group:
        told = [key for key in told if key != "seed"]
    text = ", ".join(_told(key, own[key]) for key in told if key in own)
    if not text or len(told) > _MOST_DIFFERENCES or len(text) > _MOST_LETTERS:
        return line.name
    return f"{method[:-1]}, {text})" if method.endswith(")") else f"{method} ({text})"


def _cells(line: Line) -> dict[str, str]:
    """Return the scenario of a line, flat; files by their names: where they lie makes no other study."""
    run = line.runs[0]
    cells = dict(_flat(run.scenario))
    for place in set(run.study.places.values()):
        folder = os.path.join(os.path.dirname(place), "")
        cells = {key: text.replace(place, place.removeprefix(folder)) for key, text in cells.items()}
    return cells


def _told(key: str, value: str) -> str:
    parts = key.removesuffix(".kind").split(".")
    return f"{parts[-1].replace('_', ' ')} {value}"


def _is_beside(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in _BESIDE)


def _flat(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for name, inner in node.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(node, bool):
        yield key, "on" if node else "off"
    else:
        yield key, "none" if node is None else str(node)

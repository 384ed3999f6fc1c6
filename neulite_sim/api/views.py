"""The views of a comparison as they are asked for: by `--view` and its options, or by arguments of `compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from neulite_sim.arguments import wrong

if TYPE_CHECKING:
    from neulite_sim.reports.comparison import Line
    from neulite_sim.reports.intervals import Kind
    from neulite_sim.reports.views import View, ViewName


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedView:
    """Which view is asked for, with its options; none where `name` is None."""

    name: ViewName | None = None
    budget: Mapping[str, float] = field(default_factory=dict)
    target: float | None = None
    kind: Kind = "t"

    def of(self, lines: Sequence[Line], baseline: Line | None) -> View:
        """Return the view of lines.

        Raises:
            ScenarioError: they have nothing that it could show.
            DataNotFoundError: the rounds.csv of a run is missing or damaged.
        """
        from neulite_sim.reports.budget_views import cost_to_target, quality_under_budget
        from neulite_sim.reports.churn_view import robustness
        from neulite_sim.reports.views import COST, QUALITY

        if self.name == QUALITY:
            return quality_under_budget(lines, self.budget, baseline=baseline, kind=self.kind)
        if self.name == COST:
            return cost_to_target(lines, self.target, baseline=baseline, kind=self.kind)
        return robustness(lines, baseline=baseline, kind=self.kind)


def asked_view(name: str | None, *, budget: str | None, target: str | None, interval: str) -> AskedView:
    """Return what `--view`, `--budget`, `--target` and `--interval` ask for.

    Raises:
        ScenarioError: one of them is not understood, missing, or does not go with the view.
    """
    from neulite_sim.reports.budget_views import parse_budget, parse_target
    from neulite_sim.reports.intervals import KINDS
    from neulite_sim.reports.views import COST, QUALITY, VIEWS, refused

    kind = next((kind for kind in KINDS if kind == interval), None)
    if kind is None:
        raise refused("--interval", f"{interval!r} is none of {', '.join(KINDS)}", "use one of them")
    found = next((view for view in VIEWS if view == name), None)
    if name is not None and found is None:
        raise refused("--view", f"{name!r} is none of {', '.join(VIEWS)}", "use one of them")
    for option, value, wanted in (("--budget", budget, QUALITY), ("--target", target, COST)):
        if value is not None and found != wanted:
            raise refused(option, f"acts only with --view {wanted}", "add it, or remove the option")
    if found == QUALITY and budget is None:
        raise refused(
            "--view quality-under-budget",
            "needs a budget",
            "add --budget memory=300MB,time=2h,traffic=1GB,energy=500kJ",
        )
    return AskedView(
        name=found,
        budget={} if budget is None else parse_budget(budget),
        target=None if target is None else parse_target(target),
        kind=kind,
    )


def budget_text(budget: str | Mapping[str, Any] | None) -> str | None:
    """Return a budget as `--budget` takes it."""
    if isinstance(budget, Mapping):
        return ",".join(f"{bound}={value}" for bound, value in budget.items())
    if budget is not None and not isinstance(budget, str):
        raise wrong("budget", budget, 'a text such as "memory=300MB,time=2h", or a mapping of that')
    return budget

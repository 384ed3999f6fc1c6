"""`profile`: what each submodel of a scenario costs, and who can train it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from neulite_sim.api.result import FilePath, Result, as_html, as_json, rows_of
from neulite_sim.api.sources import Values, source_of
from neulite_sim.results.row_table import Rows
from neulite_sim.scenario.sources import AnyScenario, Settings, scenario_from
from neulite_sim.turns import my_turn

if TYPE_CHECKING:
    from neulite_sim.notebook.figure import Figure
    from neulite_sim.reports.plot_options import PlotOptions
    from neulite_sim.reports.table import TextTable


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProfileResult(Result):
    """What the submodels of a scenario cost; a row per submodel, and per plan with `training.fit: auto`."""

    content: Mapping[str, Any]

    @property
    def rows(self) -> Rows:
        """A row per submodel: memory by category, work, traffic, share of the fleet, seconds per device class."""
        return rows_of(self.content["submodels"])

    @property
    def participation_rate(self) -> float:
        """The share of the devices that can train at least one submodel of the method."""
        return float(self.content["participation_rate"])

    def tables(self, *, width: int | None = None) -> list[TextTable]:
        """Return the two tables of `profile`: memory and who holds it, then work, traffic and seconds."""
        from neulite_sim.reports.profile_table import profile_tables

        found = profile_tables(self.content)
        return found if width is None else [block for table in found for block in table.blocks(width)]

    def to_json(self, path: FilePath | None = None) -> dict[str, Any]:
        """Return the object of `profile --json`, written into a file too if one is named.

        Raises:
            OutputError: the file cannot be written.
        """
        return as_json(self.content, path)

    def to_html(self, path: FilePath | None = None) -> str:
        """Return the profile as a page that needs no other file, written into a file too if one is named.

        Raises:
            OutputError: the file cannot be written.
        """
        from neulite_sim.reports.html.profile_page import profile_page

        return as_html(lambda most_rows: profile_page(self.content), path)

    def drawn(self, file: Path | None, options: PlotOptions) -> Figure:
        """Return the figure of the memory of each submodel by category, for options that have been checked."""
        from neulite_sim.reports.profile_plot import draw_profile

        return draw_profile(self.content, file, options)


@my_turn()
def profile(
    scenario: AnyScenario,
    *,
    overrides: Settings = (),
    seed: int | None = None,
    audit: bool = False,
    **values: Unpack[Values],
) -> ProfileResult:
    """Return memory, compute and traffic of each submodel, and the share of the fleet that can train it.

    What `neulite-sim profile` prints; nothing is trained.

    Args:
        scenario: a path, a mapping of plain values, or a `Scenario`.
        overrides: dotted keys with values, `{"method.kind": "fedavg"}`, or texts as `--set` takes them.
        seed: in the place of the scenario's own.
        audit: also track a real step of each submodel; that takes the memory it describes.
        values: model, data, partition, method, selector, protocol and availability as `simulate` takes them.

    Raises:
        ScenarioError: the scenario is wrong, or its parts do not go together; with every problem found.
        DataNotFoundError: a dataset or trace is not where the scenario says.
    """
    from neulite_sim.api.checks import FleetCheck

    check = FleetCheck()
    loaded = scenario_from(source_of(scenario, values), overrides, seed=seed, checks=[check])

    from neulite_sim.engine.assembly import assemble
    from neulite_sim.studies.costs import cost_report

    return ProfileResult(content=cost_report(assemble(loaded, check.fleet), audits=audit))

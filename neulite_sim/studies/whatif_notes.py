"""What is said below the tables of a memory-budget study."""

from __future__ import annotations

from collections.abc import Sequence

from neulite_sim.engine.announcing import announcements, other_batches
from neulite_sim.engine.parts import Costing
from neulite_sim.methods.contract import Method
from neulite_sim.studies.whatif_settling import looks_at_fleet

Found = Sequence[tuple[str, str, Costing]]
"""Method, variant and costing of each entrant."""


def notes_of(found: Found) -> list[str]:
    """Return what is left out, what methods come to on this model, and whom the peaks do not hold for."""
    return [*_left_out(found[0][2]), *_chosen_anew(found), *_announced(found), *_charged_otherwise(found),
            *_not_missed(found)]  # fmt: skip


def _left_out(costing: Costing) -> list[str]:
    notes = []
    if costing.population.memory_motion is not None:
        notes.append("Available memory moves in this scenario; the study takes each device's nominal memory.")
    if costing.scenario.protocol.kind != "synchronous":
        notes.append(f"Round times are those of synchronous rounds; the scenario's protocol is "
                     f"{costing.scenario.protocol.kind}.")  # fmt: skip
    return notes


def _chosen_anew(found: Found) -> list[str]:
    """Return which methods have other submodels at other budgets, each once."""
    methods = dict.fromkeys(method for method, _, costing in found if looks_at_fleet(costing.method))
    return [f"{method} chooses its submodels by the fleet: at each budget it has those of a run with that memory."
            for method in methods]  # fmt: skip


def _announced(found: Found) -> list[str]:
    """Return what methods come to on this model, each sentence once."""
    said = (
        message if message.startswith(method) else f"{variant}: {message}"
        for method, variant, costing in found
        for message in announcements(costing)
    )
    return list(dict.fromkeys(said))


def _charged_otherwise(found: Found) -> list[str]:
    """Return whom the peaks do not hold for, once where that is the same with every method."""
    return list(dict.fromkeys(message for *_, costing in found for message in other_batches(costing)))


def _not_missed(found: Found) -> list[str]:
    """Return whose devices download more than the study counts: who took part before is not known without weights."""
    return [
        f"{variant}: what devices download because they missed it is left out, since with "
        f"{costing.method.decides_by_weights} trained weights decide who takes part"
        for _, variant, costing in found
        if costing.method.decides_by_weights and type(costing.method).owed_bytes is not Method.owed_bytes
    ]

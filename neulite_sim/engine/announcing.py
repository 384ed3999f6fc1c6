"""What a method comes to on a scenario's model, where its name promises more: said by a run, a profile and a study."""

from __future__ import annotations

from collections.abc import Sequence

from neulite_sim.engine.parts import Costing
from neulite_sim.models.names import FULL
from neulite_sim.units import format_bytes


def announcements(costing: Costing) -> tuple[str, ...]:
    """Return a sentence for each: a method that is another one here, and submodels that save no memory."""
    method, kind = costing.method, costing.scenario.method.kind
    found = []
    if method.same_as:
        found.append(f"{kind} is another name of {method.same_as}: the same rows, the same digest")
    if method.trains_blocks and costing.charged.build_meta().num_blocks == 1:
        found.append(
            f"{kind} trains block by block, and {costing.charged.name} is one block: its only submodel is the whole "
            "model, so no device needs less memory than with fedavg; a model of more blocks would change that"
        )
    return (*found, *_above_full(costing))


def _above_full(costing: Costing) -> list[str]:
    profiles, method = costing.ledger.profiles, costing.method
    full_bytes = profiles[FULL].peak_memory_bytes
    above = [
        f"{name} ({format_bytes(profiles[name].peak_memory_bytes)})"
        for name in method.submodels
        if profiles[name].peak_memory_bytes > full_bytes
    ]
    if not above:
        return []
    verb = "needs" if len(above) == 1 else "need"
    return [
        f"{_listed(above)} {verb} more memory than the full model ({format_bytes(full_bytes)}): none is saved there"
    ]


def _listed(items: Sequence[str]) -> str:
    *firsts, last = items
    return f"{', '.join(firsts)} and {last}" if firsts else last

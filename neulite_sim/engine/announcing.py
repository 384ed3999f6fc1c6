"""What a method comes to on a scenario's model, where its name promises more: said by a run, a profile and a study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neulite_sim.engine.parts import Costing
from neulite_sim.models.names import FULL
from neulite_sim.scenario.schema import Training
from neulite_sim.units import format_bytes


def announcements(costing: Costing) -> tuple[str, ...]:
    """Return a sentence for each: a method that is another one here, and submodels that save no memory."""
    method, kind = costing.method, costing.scenario.method.label
    found = []
    if method.same_as:
        found.append(f"{kind} is another name of {method.same_as}: the same rows, the same digest")
    if method.trains_blocks and costing.charged.look().num_blocks == 1:
        found.append(
            f"{kind} trains block by block, and {costing.charged.name} is one block: its only submodel is the whole "
            "model, so no device needs less memory than with fedavg; a model of more blocks would change that"
        )
    if not method.takes_gradients and (idle := _of_optimizers(costing.scenario.training)):
        found.append(f"{kind} takes no gradients, so these of training have no effect: {_listed(idle)}")
    if not method.enforces_memory and (short := _without_memory(costing)):
        found.append(short)
    return (*found, *_above_full(costing))


def _of_optimizers(training: Training) -> list[str]:
    """Return what a scenario says of steps along gradients."""
    names = ("epochs", "optimizer", "momentum", "weight_decay", "clip_norm")
    # A scenario that was written out names every value; and momentum follows the optimizer.
    usual, alike = Training(), Training(optimizer=training.optimizer)
    return [name for name in names if getattr(training, name) != getattr(usual if name == "optimizer" else alike, name)]


def _without_memory(costing: Costing) -> str:
    """Return how many devices train without the memory for it; empty where all have it."""
    ledger = costing.ledger
    fits = np.logical_or.reduce([ledger.fits(name) for name in costing.method.submodels])
    if fits.all():
        return ""
    short = f"{int((~fits).sum()):,} of {len(fits):,} devices"
    return f"{costing.scenario.method.label} goes on without a memory limit here: {short} train what they cannot hold"


def other_batches(costing: Costing) -> list[str]:
    """Return in a sentence whom the peaks that are shown do not hold for, since they train one sample more at once."""
    ledger = costing.ledger
    name, size = costing.method.submodels[0], ledger.plans[0].batch_size
    merging = int((ledger.merges(name) & ledger.owns_data).sum())
    if not merging:
        return []
    who = "1 device is" if merging == 1 else f"{merging:,} devices are"
    whole = f"of {size + 1} samples instead of {size}" if len(ledger.plans) == 1 else "that is one sample larger"
    return [
        f"{who} charged for a batch {whole}, so that none is left over alone, which BatchNorm could not normalise; "
        "who fits is counted by that"
    ]


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

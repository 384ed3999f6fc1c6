"""A method that chooses its submodels by their costs has done so when the ledger is made, each profiled once."""

from collections import Counter

import numpy as np
import pytest
from tiny_scenarios import TINY

from neulite_sim.engine import assembly
from neulite_sim.methods.contract import Method
from neulite_sim.methods.staircase import Configuration
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import names
from neulite_sim.scenario.loading import parse_scenario

pytestmark = pytest.mark.usefixtures("shared_profiles")


def parts_of(method, **changes):
    given = {**TINY, "data": {**TINY["data"], "image_size": 8}, "model": "cnn", "method": method}
    memory = {"kind": "explicit", "values": ["350kB", *["900kB"] * 2, *["1MB"] * 3]}
    given["population"] = {**TINY["population"], "available_memory": memory}
    return assembly.prepare(parse_scenario({**given, **changes}))


def charged(parts):
    calls = Counter()

    def counting(submodel, build, **how):
        calls[submodel, how["batch_size"], how["training"].micro_batch_size] += 1
        return profile(submodel, build, **how)

    return assembly.charge(parts, counting), calls


def test_the_ledger_is_of_what_was_settled_and_nothing_is_profiled_twice():
    parts = parts_of({"kind": "slt", "width_step": 0.25})
    costing, calls = charged(parts)
    assert costing.method is not parts.method
    assert list(costing.ledger.profiles) == [*costing.method.submodels, "full"]
    assert set(costing.method.submodels) <= {name for name, *_ in calls}
    assert max(calls.values()) == 1


def test_every_configuration_fits_whoever_holds_a_staircase_and_the_next_width_does_not():
    costing, _ = charged(parts_of({"kind": "slt", "width_step": 0.25}))
    names_of = [stage.name for stage in costing.method.stages]
    assert all(costing.ledger.fits(name).tolist() == [False, *[True] * 5] for name in names_of)
    last = costing.method.stages[-1]
    assert last.width < 1
    wider = {"kind": "slt", "configurations": [[last.width + 0.25, last.depth]]}
    other, _ = charged(parts_of(wider))
    assert other.ledger.fits(other.method.submodels[-1]).tolist() == [False] * 3 + [True] * 3


def test_memory_does_not_fall_where_the_width_rises():
    widths = (0.25, 0.5, 0.75)
    peaks = []
    for width in widths:
        costing, _ = charged(parts_of({"kind": "slt", "configurations": [[width, 0.5]]}))
        peaks.append(costing.ledger.least_peak_bytes(Configuration(width=width, depth=0.5).name))
    assert (np.diff(peaks) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", names("method"))
def test_other_methods_stay_as_they_are(kind):
    # It leaves out layers that are alike, which the convolutional network lacks.
    transformer = {"kind": "vit", "patch": 4, "dim": 8, "heads": 2, "depth": 3}
    parts = parts_of(kind, **({"model": transformer} if kind == "fedra" else {}))
    if type(parts.method).settled is Method.settled:
        assert charged(parts)[0].method is parts.method

"""What `import neulite_sim` gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

import neulite_sim
from neulite_sim.engine.simulation import simulate
from neulite_sim.scenario.loading import load_scenario
from neulite_sim.scenario.schema import Scenario


def test_the_public_names_are_these_and_load_on_first_use() -> None:
    functions = ["compare", "load_run", "load_scenario", "profile", "register", "resume", "simulate", "sweep", "whatif"]
    assert neulite_sim.__all__ == ["Scenario", "__version__", *functions]
    assert all(getattr(neulite_sim, name).__name__ == name for name in functions)
    assert dir(neulite_sim) == neulite_sim.__all__
    assert (neulite_sim.Scenario, neulite_sim.load_scenario, neulite_sim.simulate) == (
        Scenario,
        load_scenario,
        simulate,
    )


def test_importing_the_package_loads_nothing_else() -> None:
    code = (
        "import sys, neulite_sim\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'torch', 'pydantic', 'numpy', 'typer'})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'neulite_sim' has no attribute 'simulated'"):
        neulite_sim.simulated  # noqa: B018

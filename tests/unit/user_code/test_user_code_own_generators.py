"""Generators of random numbers that code of users' own holds: a run says that it does not seed them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_scenarios import tiny

import neulite_sim

pytestmark = pytest.mark.usefixtures("shared_profiles")

TOLD = (
    "which no run seeds: equal runs and a resumed one may draw others; draw from Python's, NumPy's or PyTorch's own, "
    "which are seeded for each call"
)


def test_a_run_names_the_generator_that_a_function_reads() -> None:
    generator = np.random.default_rng()

    def noisy(current: Any, updates: Any) -> Any:
        generator.random()
        return {}

    notices = neulite_sim.simulate(tiny("stop.rounds=1"), method=noisy).notices
    assert f"method noisy holds a generator of random numbers (generator), {TOLD}" in notices


def test_that_of_a_file_is_named_as_well_and_one_without_is_not(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import random\nLUCK = random.SystemRandom()\n"
        "def lucky(offers, count, rng):\n    return LUCK.sample(range(len(offers)), 1)\n"
        "def plain(offers, count, rng):\n    return random.sample(range(len(offers)), 1)\n"
    )
    told = {}
    for name in ("lucky", "plain"):
        choice = f"selection={{kind: python, path: {tmp_path / 'own.py'}, name: {name}}}"
        told[name] = neulite_sim.simulate(tiny("stop.rounds=1", choice)).notices
    assert f"selection lucky holds a generator of random numbers (LUCK), {TOLD}" in told["lucky"]
    assert not any("generator" in notice for notice in told["plain"])

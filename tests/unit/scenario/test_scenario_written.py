"""A problem that shows only when the parts of a scenario are built stands at its line, as one that shows at once does."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from neulite_sim.api.backend import with_backend
from neulite_sim.engine.assembly import prepare
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.scenario.loading import load_scenario, parse_scenario
from neulite_sim.scenario.written import naming_places

TEXT = """\
name: late
data: {kind: synthetic, samples: 60, test_samples: 20, classes: 3, shape: [1, 8, 8]}
model:
  kind: cnn
training: {epochs: 1, batch_size: 8}
population:
  devices: 4
  groups: [{device: jetson-nano-4gb, share: 1}]
  available_memory: {kind: uniform, low: 512MB, high: 2GB}
method:
  kind: progfed
  growth_rounds: [1, 2, 3, 4, 5, 6, 7, 8, 9]
selection:
  kind: python
  path: mine.py
  name: nothing
stop: {rounds: 2}
backend: dry-run
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text("x = 1\n")
    path = tmp_path / "late.yaml"
    path.write_text(TEXT)
    return path


def places(found: pytest.ExceptionInfo[ScenarioError]) -> list[tuple[str, str | None, int | None]]:
    return [(problem.key, problem.file, problem.line) for problem in found.value.problems]


def test_a_method_that_refuses_its_options_is_named_with_their_line(file):
    with pytest.raises(ScenarioError, match=r"late\.yaml:12: method\.growth_rounds: has 9 rounds") as found:
        prepare(load_scenario(file))
    assert places(found) == [("method.growth_rounds", str(file), 12)]
    with pytest.raises(ScenarioError, match=r"^--set: method\.growth_rounds: has 3 rounds") as found:
        simulate(load_scenario(file, ["method.growth_rounds=[1,2,3]"]))


def test_a_selector_that_is_built_last_is_named_with_its_line(file):
    with pytest.raises(ScenarioError, match=r"late\.yaml:16: selection\.name: \S+mine\.py holds no 'nothing'"):
        simulate(load_scenario(file, ["method=fedavg"]))


def test_what_was_replaced_is_not_named_with_the_line_of_what_was_there_before(file):
    with pytest.raises(ScenarioError) as found, naming_places(with_backend(load_scenario(file), kind="inprocess")):
        raise ScenarioError([Problem(key="backend.kind", message="no"), Problem(key="stop.rounds", message="no")])
    assert places(found) == [("backend.kind", None, None), ("stop.rounds", str(file), 17)]


def test_what_is_no_key_of_the_scenario_or_has_a_place_stays_as_it_is(file):
    with pytest.raises(ScenarioError) as found, naming_places(load_scenario(file)):
        raise ScenarioError([Problem(key="", message="no"), Problem(key="stop", message="no", file="other", line=3)])
    assert places(found) == [("", None, None), ("stop", "other", 3)]


def test_where_a_scenario_stands_is_no_part_of_what_it_says(file):
    read = load_scenario(file)
    said = parse_scenario(read.dump())
    assert read == said
    assert read.written.tree is not None
    assert pickle.loads(pickle.dumps(read.written)).tree is None

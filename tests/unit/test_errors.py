"""The tree of errors, and how problems read."""

from __future__ import annotations

import pytest

from neulite_sim import errors
from neulite_sim.errors import Problem, ScenarioError, close_matches


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("ScenarioError", 2),
        ("UnknownComponentError", 2),
        ("DataNotFoundError", 2),
        ("InfeasibleError", 2),
        ("OutputError", 2),
        ("BackendUnavailableError", 1),
        ("SimulationError", 1),
    ],
)
def test_wrong_input_exits_with_two_and_a_failed_run_with_one(name: str, exit_code: int) -> None:
    found = getattr(errors, name)
    assert issubclass(found, errors.NeuliteError)
    assert found.exit_code == exit_code


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem(key="a.b", message="is bad", file="x.yaml", line=3), "x.yaml:3: a.b: is bad"),
        (Problem(key="a.b", message="is bad", file="--set"), "--set: a.b: is bad"),
        (Problem(key="", message="is empty", file="x.yaml"), "x.yaml: is empty"),
        (Problem(key="a", message="is bad"), "a: is bad"),
    ],
)
def test_a_problem_reads_as_file_line_key_message(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_a_scenario_error_holds_every_problem_a_line_each() -> None:
    error = ScenarioError(Problem(key=key, message="is bad") for key in "ab")
    assert [problem.key for problem in error.problems] == ["a", "b"]
    assert str(error) == "a: is bad\nb: is bad"


def test_close_matches_are_offered_and_far_ones_are_not() -> None:
    assert close_matches("neulit", ["fedavg", "neulite"]) == "; did you mean 'neulite'?"
    assert close_matches("mean_of", ["mean_on", "mean_off"]) == "; did you mean 'mean_off' or 'mean_on'?"
    assert close_matches("xyz", ["fedavg", "neulite"]) == ""

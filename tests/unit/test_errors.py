"""The tree of errors, and how problems read."""

from __future__ import annotations

import pickle

import pytest

from neulite_sim import errors
from neulite_sim.errors import NeuliteError, NotResumableError, OutputError, Problem, ScenarioError, close_matches


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("ScenarioError", 2),
        ("UnknownComponentError", 2),
        ("DataNotFoundError", 2),
        ("NotResumableError", 2),
        ("AppError", 2),
        ("InfeasibleError", 2),
        ("OutputError", 2),
        ("BackendUnavailableError", 1),
        ("SimulationError", 1),
        ("BackendLostError", 1),
        ("RunsFailedError", 1),
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


def test_an_error_says_what_was_found_and_what_to_do_and_keeps_both_apart() -> None:
    error = OutputError("a: is there; or was", hint="remove it")
    assert (str(error), error.what, error.hint) == (
        "a: is there; or was; remove it",
        "a: is there; or was",
        "remove it",
    )
    plain = OutputError("a: is there; remove it")
    assert (str(plain), plain.what, plain.hint) == ("a: is there; remove it", "a: is there; remove it", "")


def test_a_scenario_error_has_the_hints_of_its_problems_once_each() -> None:
    found = [
        Problem.advising(key=key, found="is bad", hint=hint) for key, hint in (("a", "go"), ("b", "go"), ("c", "x"))
    ]
    error = ScenarioError([*found, Problem(key="d", message="is bad; too")])
    assert str(error) == "a: is bad; go\nb: is bad; go\nc: is bad; x\nd: is bad; too"
    assert error.what == "a: is bad\nb: is bad\nc: is bad\nd: is bad; too"
    assert error.hint == "go\nx"
    assert error.details()["problems"][2] == {"key": "c", "message": "is bad; x", "file": None, "line": None}


@pytest.mark.parametrize(
    ("because", "text"),
    [
        ("it was cut", "a: is short; it was cut, and the run cannot be resumed"),
        ("", "a: is short; the run cannot be resumed"),
    ],
)
def test_what_cannot_be_resumed_ends_with_that(because: str, text: str) -> None:
    error = NotResumableError("a: is short", because=because)
    assert (str(error), error.what, error.details()) == (text, "a: is short", {"what": "a: is short"})


class PlugInError(OutputError):
    """An error whose text is made of what it is given, as a plug-in may have one."""

    def __init__(self, name: str, count: int) -> None:
        super().__init__(f"{name} has {count}", hint="count again")


@pytest.mark.parametrize(
    "error",
    [
        OutputError("a", hint="b"),
        ScenarioError([Problem.advising(key="a", found="b", hint="c")]),
        NotResumableError("a", because="b"),
        PlugInError("a", 3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_out_of_another_process_as_it_went_in(error: NeuliteError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert [str(again), again.what, again.hint, again.kind, again.details()] == [
        str(error), error.what, error.hint, error.kind, error.details(),
    ]  # fmt: skip


def test_every_error_has_a_kind_of_its_own_with_its_exit_code() -> None:
    found = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, NeuliteError)]
    assert {error.kind: error.exit_code for error in found} == {
        kind: code for kind, (code, _) in errors.kinds().items()
    }
    assert len({error.kind for error in found}) == len(found)
    assert all(meaning for _, meaning in errors.kinds().values())


def test_close_matches_are_offered_and_far_ones_are_not() -> None:
    assert close_matches("neulit", ["fedavg", "neulite"]) == "; did you mean 'neulite'?"
    assert close_matches("mean_of", ["mean_on", "mean_off"]) == "; did you mean 'mean_off' or 'mean_on'?"
    assert close_matches("xyz", ["fedavg", "neulite"]) == ""

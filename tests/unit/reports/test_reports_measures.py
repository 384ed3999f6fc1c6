"""What curves are drawn of, and the axis of perplexities."""

from __future__ import annotations

from pathlib import Path

import pytest
from stored_runs import write_run

from neulite_sim.reports.measures import ACCURACY, MEASURES, log_steps, measures_of, perplexity_range, step_text


def test_runs_are_drawn_with_perplexity_where_one_has_it(tmp_path: Path) -> None:
    picture = write_run(tmp_path / "picture", [(10.0, 0.5)])
    text = write_run(tmp_path / "text", [(10.0, 0.5)], perplexities=(20.0,))
    cut = write_run(tmp_path / "cut", [(10.0, 0.5)], perplexities=(20.0,), is_complete=False)
    assert measures_of([picture]) == (ACCURACY,)
    assert measures_of([picture, text]) == measures_of([cut]) == MEASURES


@pytest.mark.parametrize(
    ("values", "low", "high", "is_log"),
    [([10.0, 200.0], 10.0, 200.0, False), ([10.0, 201.0], 10.0, 201.0, True), ([20.0, 20.0], 19.0, 21.0, False)],
)
def test_a_twentyfold_range_is_logarithmic_and_a_narrow_one_is_widened(
    values: list[float], low: float, high: float, is_log: bool
) -> None:
    found = perplexity_range(values)
    assert (found.low, found.high, found.is_log) == (pytest.approx(low), pytest.approx(high), is_log)


@pytest.mark.parametrize(
    ("low", "high", "steps"),
    [(9, 210, [10, 20, 50, 100, 200]), (9, 3500, [10, 100, 1000]), (1, 1e20, [1, 1e5, 1e10, 1e15, 1e20])],
)
def test_logarithmic_steps_are_few_and_inside(low: float, high: float, steps: list[float]) -> None:
    assert log_steps(low, high, 5) == pytest.approx(steps)


def test_large_steps_are_said_in_powers_of_ten() -> None:
    assert [step_text(at) for at in (2.0, 5000.0, 1e6)] == ["2", "5,000", "1e+06"]

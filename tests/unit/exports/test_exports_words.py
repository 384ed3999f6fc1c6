"""One mapping from the numbers of a run to names and units in other tools."""

from __future__ import annotations

import dataclasses
import re

from stored_runs import round_row

from neulite_sim.exports.origin import parameters
from neulite_sim.exports.words import METRICS, OUTCOMES, TABLES, outcomes_of, round_points, unit_of
from neulite_sim.results.cells import FILES, OPTIONAL_FILES, column_types
from neulite_sim.results.rows import EVERYTHING, DeviceRow, RoundRow
from neulite_sim.results.summary import Identity, Tally

PLAIN = {
    "round", "flight", "device", "version", "block", "train_loss", "test_loss", "loss", "learning_rate", "test_perplexity",
}  # fmt: skip
"""Numbers without a unit: what is numbered, losses and rates."""


def test_every_table_has_a_name() -> None:
    assert TABLES.keys() == {*FILES, *OPTIONAL_FILES, DeviceRow}


def test_every_number_of_a_round_has_a_name_of_its_own() -> None:
    numbers = {name for name, (cast, _) in column_types(RoundRow, asked=EVERYTHING).items() if cast is not str}
    assert METRICS.keys() == numbers - {"round"}
    assert len({*METRICS.values(), *OUTCOMES.values()}) == len(METRICS) + len(OUTCOMES)


def test_every_number_of_a_summary_has_a_name_of_its_own() -> None:
    words = dict.fromkeys(("name", "method", "selection", "model", "dataset", "backend"), "x")
    identity = Identity(seed=1, **words)
    summary = Tally([1], targets=(0.5,)).summary(
        identity, participation_rate=1.0, proxy=None, wall_time_s=1.0, digest=""
    )
    texts = {*dataclasses.asdict(identity), "proxy", "digest", "time_to_accuracy_s"}
    assert OUTCOMES.keys() - {"final_perplexity", "best_perplexity"} == summary.keys() - texts
    assert outcomes_of({**summary, "time_to_accuracy_s": {"0.5": 3.0, "0.9": None}})["time/to_accuracy_0.5_s"] == 3.0


def test_no_name_is_a_folder_of_another() -> None:
    """MLflow keeps the points of `a/b` in a file `b` of a folder `a`."""
    names = {*METRICS.values(), *OUTCOMES.values()}
    assert not [name for name in names for other in names if other.startswith(f"{name}/")]


def test_every_number_has_a_unit_or_is_known_to_have_none() -> None:
    for kind in TABLES:
        numbers = {name for name, (cast, _) in column_types(kind, asked=EVERYTHING).items() if cast is not str}
        assert {name for name in numbers if not unit_of(name)} <= PLAIN


def test_units_stand_at_the_end_of_names() -> None:
    for column, name in METRICS.items():
        unit = unit_of(column)
        if unit not in ("", "share", "terms", "workers"):
            assert re.search(rf"_{unit}$", name), (column, name)


def test_what_is_not_known_is_no_point() -> None:
    points = dict(round_points(dataclasses.asdict(round_row(1, 2.0, None, train_loss=-1.5))))
    assert "accuracy/test" not in points
    assert (points["loss/train"], points["time/virtual_s"]) == (-1.5, 2.0)


def test_parameters_are_flat_without_what_is_not_given_and_cut_where_long() -> None:
    found = parameters(
        {"a": {"b": {"kind": "x"}, "c": None}, "d": True, "e": [1, {"f": 2}], "g": list(range(1000)), "h": "i" * 600}
    )
    assert {key: found[key] for key in "de"} | {"a.b.kind": found["a.b.kind"]} == {
        "a.b.kind": "x",
        "d": True,
        "e": '[1, {"f": 2}]',
    }
    assert len(found["g"]) == len(found["h"]) == 500
    assert found["g"].endswith("... (1000 items)")
    assert "a.c" not in found

"""`--audit` of a run: what is trained and what is charged, predicted and measured."""

import json

import pytest
from tiny_scenarios import tiny, waves

from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.simulation import simulate
from neulite_sim.reports.audit_table import audit_table
from neulite_sim.studies import auditing
from neulite_sim.studies.auditing import AuditKeeper, audit_run


@pytest.fixture(scope="module")
def rows():
    return audit_run(assemble(waves()))


@pytest.mark.slow
def test_the_submodels_of_both_ledgers_are_measured_within_three_percent(rows):
    assert [(row["ledger"], row["submodel"], row["batch_size"]) for row in rows] == [
        ("trained", "stage-1", 4), ("trained", "stage-2", 4), ("charged", "stage-1", 32), ("charged", "stage-2", 32),
    ]  # fmt: skip
    for row in rows:
        assert row["measured_bytes"] == pytest.approx(row["predicted_bytes"], rel=0.03)
        assert row["relative_error"] == pytest.approx(row["measured_bytes"] / row["predicted_bytes"] - 1)
        assert row["skipped"] == ""


@pytest.mark.slow
def test_each_plan_that_somebody_takes_is_measured():
    """Of what is charged; what is trained takes its micro-batches in proportion, and each way of it once."""
    memory = (
        "population.available_memory={kind: explicit, values: [970kB, 1MB, 1MB, 1.4MB, 1.4MB, 2.6MB, 2.6MB, 2.7MB]}"
    )
    found = audit_run(assemble(waves("method=fedavg", memory, "training.fit=auto")))
    charged = {row["plan"]: row for row in found if row["ledger"] == "charged"}
    assert [*charged] == [
        "whole batch",
        "micro-batch 8",
        "micro-batch 4 + checkpointing",
        "micro-batch 2 + checkpointing",
    ]
    assert [row["plan"] for row in found if row["ledger"] == "trained"] == ["whole batch", "micro-batch 2"]
    for row in found:
        assert row["measured_bytes"] == pytest.approx(row["predicted_bytes"], rel=0.03)
    assert charged["micro-batch 8"]["predicted_bytes"] == 1_321_316
    table = audit_table(found)
    assert "plan" in table.headers
    assert "plan" not in audit_table([{**row, "plan": ""} for row in found]).headers


def test_one_ledger_is_measured_once():
    assert [row["ledger"] for row in audit_run(assemble(tiny()))] == ["trained"]


def test_a_step_that_this_machine_cannot_hold_is_left_out_with_the_reason(monkeypatch):
    monkeypatch.setattr(auditing, "free_memory_bytes", lambda: 1000)
    (row,) = audit_run(assemble(tiny()))
    assert row["measured_bytes"] is None
    assert "1000 bytes free, and a real step may take 2 times" in row["skipped"]
    table = audit_table([row])
    assert "not measured" in table.rows[0]
    assert table.notes == (f"full (trained): {row['skipped']}",)


def test_the_table_has_a_column_for_cuda_only_where_it_was_measured(rows):
    assert "CUDA" not in audit_table(rows).headers
    table = audit_table([{**rows[0], "cuda_allocated_bytes": 3_000_000}, rows[1]])
    assert table.headers[-1] == "CUDA"
    assert [row[-1] for row in table.rows] == ["3 MB", ""]


def test_the_audit_is_kept_in_the_run_folder(tmp_path, rows):
    result = simulate(tiny("stop.rounds=1"), out=tmp_path / "run", observers=[AuditKeeper(rows)])
    kept = json.loads((result.run_dir / "audit.json").read_text(encoding="utf-8"))
    assert kept == {"submodels": rows}


def test_without_a_run_folder_nothing_is_kept(rows):
    assert simulate(tiny("stop.rounds=1"), observers=[AuditKeeper(rows)]).run_dir is None


def test_a_prediction_that_is_far_off_is_pointed_out():
    row = {"ledger": "trained", "model": "net", "submodel": "full", "batch_size": 8, "plan": "", "skipped": "",
           "predicted_bytes": 294_200, "measured_bytes": 929_100, "relative_error": 2.158}  # fmt: skip
    (note,) = audit_table([row]).notes
    assert note.startswith("full (trained): a real step takes 929.1 kB, but 294.2 kB are charged, so who can take part")
    assert not audit_table([{**row, "measured_bytes": 295_000, "relative_error": 0.003}]).notes

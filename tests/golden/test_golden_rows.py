"""The rows of two small dry runs, column by column, against the tables in `rows/`.

They pin down what no law can: which devices are drawn, chosen, dropped and denied, and when. Profiles are written down
here, and floats are kept to nine digits, so that neither PyTorch nor the processor has a say. After a wanted change of
results, run this file as a program to write the tables anew, and name the change in the changelog.
"""

import csv
import io
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_scenarios import waves

from neulite_sim.engine import charging
from neulite_sim.engine.simulation import simulate
from neulite_sim.profiling.profile import Profile
from neulite_sim.profiling.tracer import MemoryBytes
from neulite_sim.results.rows import FlightRow, later_columns

FOLDER = Path(__file__).parent / "rows"
TABLES = ("rounds", "flights", "denials")
RUNS = {
    "staged": waves("backend=dry-run", "stop.rounds=12", "data.train_samples=20"),
    "full": waves("backend=dry-run", "stop={rounds: 50, virtual_time: 6s}", "method={kind: exclusivefl}",
                  "population.availability={kind: markov, mean_on: 1500ms, mean_off: 8s}",
                  "selection.devices_per_round=2", "data.partition={kind: shards, shards_per_device: 3}"),
}  # fmt: skip
"""One with denials of every reason and drops; one that waits for devices, shrinks to one flight, and is cut off."""
OF_TRAINING = {"train_loss", "test_loss", "test_accuracy", "loss", "skipped_terms", "wall_time_s"}


def written_down(method, charged, training, profiler):
    """Return profiles in place of traced ones: megabytes of memory, and a few operators."""
    peaks = {"stage-1": 2_615_000, "stage-2": 2_609_000, "full": 2_650_000}
    return {
        name: Profile(
            submodel=name,
            batch_size=training.batch_size,
            parameters=60_000,
            trainable_parameters=50_000,
            memory=MemoryBytes(parameters=240_000, activations=peaks[name] - 240_000),
            operator_flops=np.array([2e9, 5e8, 0.0]),
            operator_bytes=np.array([1e6, 4e6, 9e6]),
            bytes_down=240_000 + 10 * len(name),
            bytes_up=200_000,
        )
        for name in dict.fromkeys((*method.submodels, "full"))
    }


def tables(name):
    """Return the text of each table of a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charging, "profile_all", written_down)
        result = simulate(RUNS[name])
    return {table: _as_csv(getattr(result, table)) for table in TABLES}


def _as_csv(rows):
    text = io.StringIO()
    # What came later and nobody asked for.
    later = [
        name for name, default in later_columns(FlightRow).items() if all(row.get(name) == default for row in rows)
    ]
    columns = [column for column in rows.columns if column not in (*OF_TRAINING, *later)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value):
    return "" if value is None else f"{value:.9g}" if isinstance(value, float) else value


@pytest.mark.parametrize("name", RUNS)
def test_rows_are_those_of_the_last_release(name):
    for table, found in tables(name).items():
        assert found == (FOLDER / f"{name}_{table}.csv").read_text(encoding="utf-8"), table


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for run in RUNS:
        for table, text in tables(run).items():
            (FOLDER / f"{run}_{table}.csv").write_text(text, encoding="utf-8")

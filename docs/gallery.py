"""Draw the figures of docs/guides/figures.md into docs/images: `PYTHONPATH=. python docs/gallery.py`.

Runs, flights and a study are made up here, in seconds and without training, so that the pictures hang on nothing but
the code that draws; the tests draw them anew and compare. `--png FOLDER` draws them as PNG for a look.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neulite_sim.reports.budget_views import cost_to_target, quality_under_budget
from neulite_sim.reports.churn_view import robustness
from neulite_sim.reports.comparison import Line, lines_of
from neulite_sim.reports.comparison_plot import draw
from neulite_sim.reports.gantt import draw_window
from neulite_sim.reports.plot_options import PlotOptions
from neulite_sim.reports.timeline_window import Window
from neulite_sim.reports.view_plot import draw_view
from neulite_sim.reports.whatif_plot import draw_whatif
from neulite_sim.results.cells import FILES, column_types
from neulite_sim.results.rows import FlightRow, RoundRow, columns
from neulite_sim.results.stored import StoredRun

IMAGES = Path(__file__).parent / "images"
SEEDS = (42, 43, 44)
METHODS: Mapping[str, Mapping[str, float]] = {
    "fedavg": {"best": 0.95, "pace": 14.0, "round_s": 150.0, "peak": 7.1e8, "bytes": 9e8, "rounds": 36},
    "heterofl": {"best": 0.90, "pace": 18.0, "round_s": 120.0, "peak": 4.2e8, "bytes": 5e8, "rounds": 45},
    "neulite": {"best": 0.94, "pace": 26.0, "round_s": 72.0, "peak": 2.6e8, "bytes": 3e8, "rounds": 75},
}
"""Made-up methods: accuracy in the end, rounds to two thirds of it, and what a round costs."""
_USUAL: Mapping[type, Any] = {int: 1, float: 0.5, str: ""}
_SMALL = PlotOptions(style="paper", size_in=(5.2, 3.3))

Draw = Callable[[Path, Path], None]


def _row(kind: type[Any], **cells: Any) -> Any:
    usual = {name: _USUAL[found] for name, (found, _) in column_types(kind).items()}
    return kind(**{**usual, **cells})


def _run(folder: Path, method: str, seed: int, *, churn: bool = False, rounds: int = 0) -> StoredRun:
    """Write the rounds of a made-up run, and return it as if it had been read back."""
    made = METHODS[method]
    rounds = rounds or int(made["rounds"])
    draws = np.random.default_rng((seed, len(method), churn))
    path = folder / f"{'churn' if churn else 'calm'}-{method}-{seed}"
    path.mkdir(parents=True)
    best, slower = made["best"] - 0.03 * churn * (method != "neulite"), 1.3 if churn else 1.0
    rows = []
    for number in range(1, rounds + 1):
        accuracy = best * (1 - 0.9 * np.exp(-number / made["pace"] * 2)) + draws.normal(0, 0.008)
        rows.append(_row(
            RoundRow, round=number, virtual_time_s=made["round_s"] * slower * number * (1 + 0.01 * (seed - 43)),
            test_accuracy=round(float(accuracy), 4) if number % 3 == 0 else None, peak_memory_bytes=int(made["peak"]),
            bytes_down=int(made["bytes"] / 2), bytes_up=int(made["bytes"] / 2),
        ))  # fmt: skip
    with (path / FILES[RoundRow]).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns(RoundRow))
        for row in rows:
            writer.writerow(["" if (cell := getattr(row, name)) is None else cell for name in columns(RoundRow)])
    tested = [row.test_accuracy for row in rows if row.test_accuracy is not None]
    availability = {"kind": "markov"} if churn else {"kind": "always"}
    scenario = {"name": "made-up", "method": {"kind": method}, "population": {"availability": availability}}
    summary = {
        "name": "made-up", "seed": seed, "method": method, "rounds": rounds, "proxy": None,
        "virtual_time_s": rows[-1].virtual_time_s, "tail_accuracy": sum(tested[-3:]) / 3,
        "peak_memory_bytes": int(made["peak"]), "time_to_accuracy_s": {}, "participation_rate": 1.0,
    }  # fmt: skip
    return StoredRun(path=path, summary=summary, scenario={**scenario, "seed": seed}, is_complete=True)


def _groups(folder: Path, *, churn: Sequence[bool] = (False,)) -> list[Line]:
    runs = [_run(folder, method, seed, churn=each) for each in churn for method in METHODS for seed in SEEDS]
    return lines_of(runs, grouped=True)[0]


def _comparison(folder: Path, out: Path) -> None:
    draw(_groups(folder), out, PlotOptions(style="paper", size_in=(6.6, 3.0)))


def _column(folder: Path, out: Path) -> None:
    """One seed of FedAvg stopped early; HeteroFL did as FedAvg did, to the digit."""
    runs = [_run(folder, "fedavg", seed, rounds=18 if seed == 43 else 0) for seed in SEEDS]
    twin = _run(folder / "twin", "neulite", 42, rounds=30)
    short = [_run(folder, "neulite", 42), twin]
    lines = [*lines_of(runs, grouped=True)[0], *lines_of(short)[0]]
    names = {"calm-fedavg": "FedAvg", str(short[0].path): "NeuLite", str(twin.path): "NeuLite, stopped early"}
    draw(lines, out, PlotOptions(style="paper", labels=names))


def _view(make: Callable[[Sequence[Line]], Any], *, churn: Sequence[bool] = (False,)) -> Draw:
    return lambda folder, out: draw_view(make(_groups(folder, churn=churn)), out, _SMALL)


def _study(kind: str) -> dict[str, Any]:
    """Return a made-up study in the shape of `whatif --json`."""
    needs = {"fedavg": (7.1e8, 7.1e8), "fedavg, fit auto": (2.9e8, 7.1e8), "heterofl": (9e7, 7.1e8),
             "neulite": (2.1e8, 5.0e8)}  # fmt: skip
    budgets = [1e8, 2e8, 3e8, 4e8, 6e8, 8e8]
    rows = []
    for variant, (least, whole) in needs.items():
        for number, budget in enumerate(budgets):
            share = min(max((budget - 0.6 * least) / (1.2 * whole), 0.0), 1.0) if kind == "scale" else budget >= least
            learned = 0.70 + 0.25 * min(budget / whole, 1.0) if share and kind == "memory" else None
            row = {"variant": variant, "budget_bytes": int(budget), "participation_rate": float(share),
                   "data_share": float(share) * 0.94, "round_s": 60.0 + 1.2e-7 * min(budget, whole) if share else None,
                   "tail_accuracy": learned}  # fmt: skip
            rows.append(row | ({"scale": 0.25 * (number + 1)} if kind == "scale" else {}))
    return {
        "scenario": "made-up", "model": "resnet18", "devices": 100, "budget_kind": kind, "rows": rows,
        "submodels": [{"variant": "heterofl", "peak_memory_bytes": int(peak)} for peak in (1.6e8, 3.1e8)],
        "includes_everyone_at_bytes": {name: int(least) for name, (least, _) in needs.items()},
        "trains_everything_at_bytes": {name: int(whole) for name, (_, whole) in needs.items()},
    }  # fmt: skip


def _flights() -> Iterator[FlightRow]:
    """Yield the flights of two rounds of eight devices: two pause, one drops."""
    draws = np.random.default_rng(3)
    for number in range(16):
        device, start_s = number % 8, 60.0 * (number // 8)
        phases = [round(float(value), 1) for value in draws.uniform((2, 10, 4), (6, 32, 12))]
        cells: dict[str, Any] = {"outcome": "arrived", "waiting_s": 0.0, "ended_s": start_s + sum(phases)}
        if number == 5:
            cells |= {"outcome": "dropped", "reason": "went offline during upload"}
        if number in (2, 11):
            pause_s = start_s + phases[0] + 4
            cells |= {"waiting_s": 8.0, "pauses": f"{pause_s}-{pause_s + 8}", "ended_s": cells["ended_s"] + 8}
        yield _row(
            FlightRow, flight=number + 1, round=number // 8 + 1, device=device, dispatched_s=start_s,
            download_s=phases[0], compute_s=phases[1], upload_s=phases[2],
            device_class="jetson-nano-4gb" if device % 2 else "jetson-tx2-8gb", **cells,
        )  # fmt: skip


def _timeline(folder: Path, out: Path) -> None:
    rounds = tuple(_row(RoundRow, round=number, virtual_time_s=60.0 * number, stage=f"stage-{number}")
                   for number in (1, 2))  # fmt: skip
    window = Window(run_dir=folder / "made-up", rounds=rounds, flights=tuple(_flights()), start_s=0.0)
    draw_window(window, out, PlotOptions(style="paper", size_in=(6.6, 3.6)))


FIGURES: Mapping[str, Draw] = {
    "figure_compare": _comparison,
    "figure_compare_column": _column,
    "figure_whatif_memory": lambda _, out: draw_whatif(
        _study("memory"), out, PlotOptions(style="paper", size_in=(6.6, 6.4))
    ),
    "figure_whatif_scale": lambda _, out: draw_whatif(_study("scale"), out, PlotOptions(style="paper", title="")),
    "figure_timeline": _timeline,
    "figure_quality": _view(lambda lines: quality_under_budget(lines, {"memory": 6e8, "time": 5400.0})),
    "figure_cost": _view(lambda lines: cost_to_target(lines, 0.85)),
    "figure_robustness": _view(robustness, churn=(False, True)),
}
"""What draws each picture of the page, given a folder for runs and a file."""


def draw_all(out: Path, *, suffix: str = ".svg") -> list[Path]:
    """Draw every figure into a folder and return the files."""
    drawn = []
    for name, figure in FIGURES.items():
        with tempfile.TemporaryDirectory() as folder:
            figure(Path(folder), out / f"{name}{suffix}")
        drawn.append(out / f"{name}{suffix}")
    return drawn


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the pictures of docs/guides/figures.md.")
    parser.add_argument("--png", metavar="FOLDER", type=Path, help="draw PNG files there instead")
    given = parser.parse_args()
    for path in draw_all(IMAGES) if given.png is None else draw_all(given.png, suffix=".png"):
        print(path)

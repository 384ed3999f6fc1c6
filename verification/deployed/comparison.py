"""A real run and a simulated one side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from deployed.processes import Real

GOAL = 0.05
TIE_S = 0.05
"""Arrivals that are predicted so close together have no order that means anything."""


def lines_of(
    real: Real, accuracy: Mapping[int, float], rounds: Sequence[Any], flights: Sequence[Any]
) -> Iterator[dict[str, Any]]:
    """Yield every round of both runs."""
    began_s, predicted_s = 0.0, 0.0
    for item, row in zip(real.rounds, rounds, strict=True):
        planned = [flight for flight in flights if flight["round"] == item.number]
        planned.sort(key=lambda flight: flight["ended_s"])
        arrived = [landing.device for landing in item.landings if landing.has_arrived]
        expected = [flight["device"] for flight in planned if flight["outcome"] == "arrived"]
        at_s = {flight["device"]: flight["ended_s"] for flight in planned}
        # Whoever came earlier was also predicted earlier, or so close that it does not count.
        is_ordered = sorted(arrived) == sorted(expected) and all(
            at_s[one] < at_s[other] + TIE_S for place, one in enumerate(arrived) for other in arrived[place + 1 :]
        )
        yield {
            "round": item.number,
            "real_s": item.ended_s - began_s,
            "simulated_s": row["virtual_time_s"] - predicted_s,
            "real_at_s": item.ended_s,
            "simulated_at_s": row["virtual_time_s"],
            "arrived": arrived,
            "predicted": expected,
            "dropped": [landing.device for landing in item.landings if not landing.has_arrived],
            "predicted_dropped": sorted(flight["device"] for flight in planned if flight["outcome"] == "dropped"),
            "same_order": is_ordered,
            "accuracy": accuracy[item.number],
            "simulated_accuracy": row["test_accuracy"],
        }
        began_s, predicted_s = item.ended_s, row["virtual_time_s"]


def compare(name: str, real: Real, accuracy: Mapping[int, float], simulated: Any, weights: Any) -> dict[str, Any]:
    """Return both runs side by side."""
    rounds, flights = list(simulated.rounds), list(simulated.flights)
    lines = list(lines_of(real, accuracy, rounds, flights))
    landings = [landing for item in real.rounds for landing in item.landings]
    took_s = {flight["flight"]: flight["ended_s"] - flight["dispatched_s"] for flight in flights}
    errors = [
        abs((landing.ended_s - landing.dispatched_s) / took_s[landing.flight] - 1)
        for landing in landings
        if landing.flight in took_s
    ]
    real_s, simulated_s = (np.array([line[key] for line in lines]) for key in ("real_s", "simulated_s"))
    state = real.rounds[-1].state
    return {
        "scenario": name,
        "rounds": lines,
        "mean_round_s": {"real": float(real_s.mean()), "simulated": float(simulated_s.mean())},
        "mean_error": float(simulated_s.mean() / real_s.mean() - 1),
        "worst_round_error": float(np.abs(simulated_s / real_s - 1).max()),
        "bytes": {
            "down": {
                "real": sum(landing.bytes_down for landing in landings),
                "simulated": sum(flight["bytes_down"] for flight in flights),
            },
            "up": {
                "real": sum(landing.bytes_up for landing in landings),
                "simulated": sum(flight["bytes_up"] for flight in flights),
            },
            "headers": sum(landing.other_bytes for landing in landings),
        },
        "flights": [
            {
                "flight": landing.flight,
                "device": landing.device,
                "has_arrived": landing.has_arrived,
                "real_s": landing.ended_s - landing.dispatched_s,
                "simulated_s": took_s.get(landing.flight),
            }
            for landing in landings
        ],
        "median_flight_error": float(np.median(errors)),
        "same_arrivals": all(sorted(line["arrived"]) == sorted(line["predicted"]) for line in lines),
        "same_order": all(line["same_order"] for line in lines),
        "same_weights": all(torch.equal(state.tensors[key], weights[key]) for key in weights),
        "same_accuracy": all(line["accuracy"] == line["simulated_accuracy"] for line in lines),
        "constants": {
            "flops_per_second": real.constants.flops_per_second,
            "operator_overhead_s": real.constants.overhead_s,
            "median_error": real.constants.median_error,
            "step_cpu_s": real.quiet_step_s,
        },
        "devices_cpu_share": real.cpu_s / real.wall_s,
        "load": os.getloadavg()[0],
    }


def is_right(found: Mapping[str, Any]) -> bool:
    """Whether a comparison is as it should be."""
    bytes_equal = all(pair["real"] == pair["simulated"] for way, pair in found["bytes"].items() if way != "headers")
    agrees = found["same_weights"] and found["same_accuracy"] and bytes_equal
    return abs(found["mean_error"]) <= GOAL and (agrees or not found["same_arrivals"])


def shown(found: Mapping[str, Any]) -> str:
    """Return a comparison as a table."""
    lines = [
        f"{found['scenario']}: round by round",
        f"{'round':>5} {'real s':>8} {'simulated':>9} {'error':>7}  {'arrived, in order':<22}{'predicted':<22}"
        f"{'left':<8}{'accuracy':>9} {'simulated':>9}",
    ]
    for line in found["rounds"]:
        left = ",".join(map(str, line["dropped"])) or "-"
        lines.append(
            f"{line['round']:>5} {line['real_s']:>8.3f} {line['simulated_s']:>9.3f} "
            f"{line['simulated_s'] / line['real_s'] - 1:>+7.1%}  {' '.join(map(str, line['arrived'])):<22}"
            f"{' '.join(map(str, line['predicted'])):<22}{left:<8}{line['accuracy']:>9.4f} "
            f"{line['simulated_accuracy']:>9.4f}"
        )
    mean, constants, sent = found["mean_round_s"], found["constants"], found["bytes"]
    says = {True: "the same", False: "DIFFERENT"}
    lines += [
        f"mean round {mean['real']:.3f} s, simulated {mean['simulated']:.3f} s: {found['mean_error']:+.1%} "
        f"(worst round {found['worst_round_error']:.1%}, flights {found['median_flight_error']:.1%} in the median)",
        f"bytes down {sent['down']['real']:,} and {sent['down']['simulated']:,}, up {sent['up']['real']:,} and "
        f"{sent['up']['simulated']:,}; headers {sent['headers']:,} more",
        f"arrivals {says[found['same_arrivals']]}, order {says[found['same_order']]}, accuracies "
        f"{says[found['same_accuracy']]}, weights {says[found['same_weights']]} to the bit",
        f"calibrated: {constants['flops_per_second'] / 1e9:.2f} GFLOP/s, "
        f"{constants['operator_overhead_s'] * 1e6:.1f} us per operator, median error {constants['median_error']:.1%}; "
        f"the devices took {found['devices_cpu_share']:.0%} of a core, load {found['load']:.1f}",
        "",
    ]  # fmt: skip
    return "\n".join(lines)

"""The fleets that are run for real and on the clock, and their scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import Scenario

FAST, SLOW = 20.0, 60.0
"""So many times slower than this machine: all devices together keep less than one core busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The devices of a scenario: how slow, over which link; whether some leave; and the server's own link."""

    factors: tuple[float, ...]
    links: tuple[str, ...]
    leaves: bool = False
    server: str | None = None
    chosen: int | None = None
    """How many train in a round; all where it is None."""
    samples: int | None = None
    """Of the data, all by default."""


FLEETS = {
    "equal": Fleet(factors=(FAST,) * 6, links=("fast",) * 6, chosen=4),
    "mixed": Fleet(
        factors=(FAST, FAST, 30.0, 40.0, SLOW, SLOW), links=("fast", "slow", "fast", "slow", "fast", "slow"),
        server="8Mbps",
    ),
    "churn": Fleet(factors=(FAST, 30.0, 30.0, 40.0, 40.0, SLOW), links=("fast",) * 6, leaves=True),
}  # fmt: skip
SMALL = {
    "equal": Fleet(factors=(10.0,) * 3, links=("fast",) * 3, chosen=2, samples=300),
    "mixed": Fleet(factors=(10.0, 20.0, 30.0), links=("slow", "fast", "fast"), server="8Mbps", samples=300),
    "churn": Fleet(factors=(20.0, 20.0, 30.0, 40.0), links=("fast",) * 4, leaves=True, samples=400),
}
LINKS = {
    "fast": {"downlink": "8Mbps", "uplink": "4Mbps", "latency": "20ms"},
    "slow": {"downlink": "4Mbps", "uplink": "1Mbps", "latency": "80ms"},
}


def scenario_of(fleet: Fleet, *, rounds: int, method: str, folder: Path, trace: Path | None = None) -> Scenario:
    """Return the scenario of a fleet, whose hardware stands in the folder."""
    groups = [
        {"device": device_name(factor), "share": 1, "link": LINKS[link]}
        for factor, link in zip(fleet.factors, fleet.links, strict=True)
    ]
    limits = {} if fleet.samples is None else {"train_samples": fleet.samples, "test_samples": 200}
    plain: dict[str, Any] = {
        "name": "deployment",
        "seed": 7,
        "data": {"kind": "digits", "image_size": 16, "partition": {"kind": "dirichlet", "alpha": 2.0}, **limits},
        "model": "lenet",
        "training": {"epochs": 1, "batch_size": 16, "learning_rate": 0.05, "momentum": 0.9},
        "population": {
            "devices": len(groups),
            "hardware": str(folder / "hardware.toml"),
            "groups": groups,
            "available_memory": {"kind": "uniform", "low": "100MB", "high": "200MB"},
            "speed_jitter": 0,
        },
        "method": method,
        "selection": {"kind": "uniform", "devices_per_round": fleet.chosen or len(groups)},
        "stop": {"rounds": rounds},
        "evaluation": {"every_rounds": 1},
        "backend": "inprocess",
    }
    if fleet.server is not None:
        plain["server"] = {"downlink": fleet.server, "uplink": fleet.server}
    if trace is not None:
        plain["population"]["availability"] = {"kind": "trace", "path": str(trace), "repeat": False}
    return parse_scenario(plain)


def device_name(factor: float) -> str:
    """Return what a device so many times slower than this machine is called."""
    return f"this-machine-{factor:g}-times-slower"

"""The sections of a scenario about links: those of devices, which may follow a trace, and the server's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from neulite_sim.bounds import Factor
from neulite_sim.registry import Options
from neulite_sim.scenario.inputs import InputFile
from neulite_sim.units import DAY_S, BitsPerSecond, Seconds


class RateTrace(Options):
    """A rate of a link that follows a trace, one trace of a file per device."""

    trace: InputFile
    """File with the header `trace,t_s,bits_per_second`, beside the scenario's file or in the current folder."""
    scale: Factor = 1.0
    """What the rates of the file are multiplied by: 0.3 for an uplink that follows a downlink, for example."""
    repeat: bool = True
    """Whether a trace starts over when it ends; without it, the link carries nothing from then on."""
    start: Literal["random", "beginning"] = "random"
    """Where in its trace each device is at virtual time 0: at a moment drawn from the seed, or at the beginning."""


def _form_of_rate(given: object) -> str:
    return "from a file" if isinstance(given, Mapping | RateTrace) else "a number"


# Pydantic puts a tag into the place of an error; these can be no key of a scenario.
Rate = Annotated[
    Annotated[BitsPerSecond, Tag("a number")] | Annotated[RateTrace, Tag("from a file")], Discriminator(_form_of_rate)
]


class Link(Options):
    """A network link of a device."""

    downlink: Rate
    """Rate towards the device, such as 20Mbps, or {trace: FILE} for one that changes over time."""
    uplink: Rate
    """Rate from the device, such as 5Mbps, or {trace: FILE}; what names the same file follows the same trace."""
    latency: Annotated[Seconds, Field(le=DAY_S)] = 0.02
    """Delay of each transfer before its first byte, such as 20ms."""


class ServerLink(Options):
    """The server's own link, which all transfers share fairly; no bottleneck where it is not given."""

    downlink: BitsPerSecond | None = None
    """Rate at which all devices together download, such as 100Mbps; no limit without it."""
    uplink: BitsPerSecond | None = None
    """Rate at which all devices together upload; no limit without it."""

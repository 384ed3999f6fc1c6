"""A model of a user's own: a PyTorch module, what builds one, or blocks and a head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from neulite_sim.registry import Options
from neulite_sim.user_code.calls import Found
from neulite_sim.user_code.components import given, python
from neulite_sim.user_code.fingerprint import NotTrackedError, fingerprint

if TYPE_CHECKING:
    from neulite_sim.models.contract import Architecture

MOST_BLOCKS = 1000


class ModelOptions(Options):
    """What every model of a user's own has."""

    blocks: int | None = Field(default=None, ge=1, le=MOST_BLOCKS)
    """How many blocks it is cut into, where it is not given as blocks; chosen by the network where it is not given."""


def architecture_of(found: Found, options: ModelOptions) -> Architecture:
    """Return the architecture that a user's value is or makes.

    Raises:
        ScenarioError: what `given_architecture` raises, or it draws from a generator that nobody seeds for a run.
    """
    from neulite_sim.models.given import given_architecture

    _require_no_generator(found)
    return given_architecture(found.value, options=found.options, blocks=options.blocks)


def _require_no_generator(found: Found) -> None:
    generators = found.generators
    if generators is None:
        try:
            generators = fingerprint(found.value).generators
        except NotTrackedError:
            return
    if generators:
        where = f" ({generators[0]})" if generators[0] else ""
        raise found.refused(
            f"{found.name} holds a generator of random numbers{where}, which no run seeds: equal runs would differ",
            "draw with torch.rand, torch.randn or dropout, whose generator a run seeds",
        )


_SUMMARY = "a model of your own: a PyTorch module, a function that builds one, or blocks and a head"
PYTHON = python("model", _SUMMARY, ModelOptions, architecture_of)
GIVEN = given("model", _SUMMARY, ModelOptions, architecture_of)

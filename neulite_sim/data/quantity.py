"""Quantity skew: devices hold unequal numbers of samples, and every device about the same mix of classes.

Li et al., "Federated Learning on Non-IID Data Silos: An Experimental Study", ICDE 2022, section "Quantity Skew": shares
q ~ Dirichlet_N(alpha) of the N devices, device j owning the share q_j of all samples. With `law: power` the shares are
those of Zipf's law, q_j proportional to r_j^-exponent, where r_j is a random rank from 1 to N.
"""

from __future__ import annotations

import functools
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from neulite_sim.bounds import MOST_SAMPLES
from neulite_sim.data.contract import Partition
from neulite_sim.data.partition import Deal, Groups, Labels, evenly_ordered, largest_remainder, partition_by_owner
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.registry import Component, Options, refuse_inert


class QuantityOptions(Options):
    """Options of `quantity`."""

    law: Literal["dirichlet", "power"] = "dirichlet"
    """Where the shares come from: a Dirichlet draw, or Zipf's law over random ranks."""
    alpha: float = Field(0.5, ge=1e-6, le=1e6)
    """Concentration of the Dirichlet draw: small values give most samples to few devices."""
    exponent: float = Field(1.0, ge=0, le=20)
    """Of Zipf's law: the share of the device of rank r is proportional to r^-exponent; 0 makes all equal."""
    min_samples: int = Field(0, ge=0, le=MOST_SAMPLES)
    """So many samples every device is given first; shares are of the rest."""

    @model_validator(mode="after")
    def _acts(self) -> Self:
        inert = {"alpha": "law dirichlet"} if self.law == "power" else {"exponent": "law power"}
        refuse_inert(self, inert)
        return self


def deal_quantity(
    labels: Labels,
    num_devices: int,
    rng: np.random.Generator,
    *,
    law: str,
    alpha: float,
    exponent: float,
    min_samples: int,
    groups: Groups | None = None,
) -> Partition:
    """Deal every device its share of the samples, with the classes of all of them as nearly as whole numbers allow.

    Samples are put in an order in which each class is spread evenly, and cut into runs; sizes are rounded by largest
    remainder. Samples with several targets are taken at random.

    Raises:
        ScenarioError: `min_samples` for every device is more than there is.
    """
    count = len(labels)
    if min_samples * num_devices > count:
        finding = f"{min_samples} for each of {num_devices} devices needs {min_samples * num_devices} samples, there "
        raise ScenarioError(
            [
                Problem.advising(
                    key="data.partition.min_samples",
                    found=f"{finding}are {count}",
                    hint=f"use at most {count // num_devices}",
                )
            ]
        )
    if law == "dirichlet":
        shares = rng.dirichlet(np.full(num_devices, alpha))
    else:
        weights = (1.0 + rng.permutation(num_devices)) ** -exponent
        shares = weights / weights.sum()
    sizes = min_samples + largest_remainder(shares, count - min_samples * num_devices)
    owners = np.empty(count, np.int64)
    owners[evenly_ordered(labels, rng)] = np.repeat(rng.permutation(num_devices), sizes)
    return partition_by_owner(owners, num_devices)


def _build(options: QuantityOptions) -> Deal:
    return functools.partial(
        deal_quantity,
        law=options.law,
        alpha=options.alpha,
        exponent=options.exponent,
        min_samples=options.min_samples,
    )


COMPONENT = Component(
    kind="quantity",
    summary="unequal numbers of samples, the same mix of classes: shares by Dirichlet or by Zipf's law",
    source="Li et al. (NIID-Bench), ICDE 2022, https://arxiv.org/abs/2102.02079",
    options=QuantityOptions,
    build=_build,
)

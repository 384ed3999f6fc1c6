"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint

import fake_components
import pytest
import torch
from shared_profiles import SHARED

from neulite_sim import registry

# No test writes into the user's folder. A session that names another is faster: what tests patch is not in a profile's key.
os.environ["NEULITE_SIM_CACHE"] = os.environ.get("NEULITE_SIM_TEST_CACHE", "off")

# Threads that wait for one another in tensors this small take three times the processor time of one thread. What must
# hold for any number of threads is tested with that number (test_pinning_laws.py).
torch.set_num_threads(1)


def entry_points_of_fakes(group: str) -> Mapping[str, EntryPoint]:
    """Return the fake components of a group, as the registry finds real ones."""
    named = fake_components.GROUPS[group].items()
    return {name: EntryPoint(name, f"fake_components:{value}", group) for name, value in named}


@pytest.fixture(scope="module")
def fakes() -> Iterator[None]:
    """Replace every registered component by the small ones of `fake_components`, for one test module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_entry_points", entry_points_of_fakes)
        yield


@pytest.fixture(scope="module")
def shared_profiles() -> Iterator[None]:
    """In one test module, take the profiles that other tests of this process have made of the same submodels."""
    SHARED.is_on = True
    yield
    SHARED.is_on = False

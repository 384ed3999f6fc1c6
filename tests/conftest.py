"""Fixtures that several test folders share, and what all processes of a session of tests have in common."""

from __future__ import annotations

import argparse
import functools
import math
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint

import pytest

CACHE = "NEULITE_SIM_CACHE"
OF_SESSION = "NEULITE_SIM_TEST_CACHE"
"""Where the session keeps profiles: a folder of its own, or the one that whoever starts it has named."""

SLOWEST = (
    "docs_pages", "engine_fields", "integration_pairs", "integration_resume", "integration_scenarios",
    "integration_instruction_sets", "cli_signals", "training_ray", "models_given", "architecture_contracts",
    "profiling_audit", "integration_participation", "engine_laws", "integration_on_gpu", "integration_given_models",
    "memory_laws", "integration_own_code", "integration_two_nodes", "integration_texts_on_ray", "api_same_answers", "profiling_language",
    "integration_given_sweeps", "integration_broken_sweeps", "integration_unseen_width", "integration_server_link",
    "training_conformance", "integration_deployment", "cli_sweep", "integration_plugin", "integration_memory",
    "integration_sweeps", "trace_events_laws", "integration_moving_memory", "pinning_laws", "cli_audit", "cli_resume",
    "cli_whatif",
)  # fmt: skip
"""Modules that take longest, in falling order: they begin first, so that no worker is left with one at the end."""

# No test writes into the user's folder, and none finds a kept profile that did not ask for `shared_profiles`.
os.environ[CACHE] = "off"
# Each of the hundreds of processes that tests start would compile all modules anew, which takes it half a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Ray's actors give way to all else by default, so that runs on them would wait for the tests of the other worker.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a share of the tests be asked for: `-m slow --part 2/5` runs the second fifth of the slow ones."""
    parser.addoption("--part", type=_part, metavar="K/N", help="run the K-th of N parts of the tests that were chosen")


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r}: K/N with 1 <= K <= N, such as 2/5")
    return int(found[1]), int(found[2])


def pytest_configure(config: pytest.Config) -> None:
    """Name the folder of kept profiles before any worker starts; prepare the processes that run tests."""
    if not hasattr(config, "workerinput") and OF_SESSION not in os.environ:
        os.environ[OF_SESSION] = tempfile.mkdtemp(prefix="neulite-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(OF_SESSION), ignore_errors=True))
    # What deals tests to workers runs none, and need not wait for PyTorch.
    if hasattr(config, "workerinput") or not config.getoption("tx", None):
        _prepare()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the part that is asked for, and put the slowest modules in front of what each of two workers begins with."""
    if (part := config.getoption("part")) is not None:
        mine = [zlib.crc32(item.nodeid.encode()) % part[1] == part[0] - 1 for item in items]
        config.hook.pytest_deselected(items=[item for item, is_mine in zip(items, mine, strict=True) if not is_mine])
        items[:] = [item for item, is_mine in zip(items, mine, strict=True) if is_mine]
    rank = {f"test_{name}": place for place, name in enumerate(SLOWEST)}
    slow = sorted((item for item in items if item.path.stem in rank), key=lambda item: rank[item.path.stem])
    quick = [item for item in items if item.path.stem not in rank]
    first, second = ([item for item in slow if rank[item.path.stem] % 2 == half] for half in (0, 1))
    cut = max(0, len(items) // 2 - len(first))
    items[:] = [*first, *quick[:cut], *second, *quick[cut:]]


def _prepare() -> None:
    import shared_profiles  # noqa: F401
    import torch
    from typer import testing

    # What commands there are does not change; Typer would work it out for each call, which takes longer than most.
    testing._get_command = functools.cache(testing._get_command)

    # Threads that wait for one another in tensors this small take three times the processor time of one thread. What
    # must hold for any number of threads is tested with that number (test_pinning_laws.py).
    torch.set_num_threads(1)


def entry_points_of_fakes(group: str) -> Mapping[str, EntryPoint]:
    """Return the fake components of a group, as the registry finds real ones."""
    import fake_components

    named = fake_components.GROUPS[group].items()
    return {name: EntryPoint(name, f"fake_components:{value}", group) for name, value in named}


@pytest.fixture(autouse=True)
def _registered_for_one_test() -> Iterator[None]:
    """Forget after each test what it registered: names in messages would depend on the order of tests."""
    yield
    if (registry := sys.modules.get("neulite_sim.registry")) is not None:
        registry._REGISTERED.clear()


@pytest.fixture(scope="module")
def fakes() -> Iterator[None]:
    """Replace every registered component by the small ones of `fake_components`, for one test module."""
    from neulite_sim import registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_entry_points", entry_points_of_fakes)
        yield


@pytest.fixture(scope="module")
def shared_profiles() -> Iterator[None]:
    """In one test module, take the profiles that other tests of this session have made of the same submodels.

    Commands that a test starts find those that were kept on disk, too. Not for a test that changes how is profiled.
    """
    from shared_profiles import SHARED

    from neulite_sim.studies import helping

    SHARED.is_on = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE, os.environ[OF_SESSION])
        # The other processor has tests of its own to run.
        patch.setattr(helping, "PATIENCE_S", math.inf)
        yield
    SHARED.is_on = False


@pytest.fixture(scope="session")
def forks() -> Iterator[None]:
    """Let commands be forked, one after the other, from a process that has imported everything."""
    from forks import forking

    with forking():
        yield


@pytest.fixture
def forked_sweeps(forks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the runs of a sweep be forked."""
    from forks import FOR_SWEEPS

    from neulite_sim.studies import sweeps

    monkeypatch.setattr(sweeps, "subprocess", FOR_SWEEPS)

"""Small components for tests of the registry, of scenarios and of the command line: valid, but never built."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from neulite_sim.registry import Choice, Component, Options
from neulite_sim.scenario.component_fields import BareKind, ComponentField
from neulite_sim.units import Bytes, Seconds


class Nothing(Options):
    """No options."""


class Iid(Options):
    """No options."""


class Dirichlet(Options):
    alpha: float = Field(default=0.5, gt=0)
    """Concentration: smaller is more uneven."""


class Digits(Options):
    partition: Annotated[Choice, ComponentField("partition")] = Field("iid", validate_default=True)
    """How the training samples are dealt to devices."""
    image_size: int | None = Field(default=None, ge=4)
    """Side of the square images."""
    root: str = "data"
    """Folder that holds the files."""


class Linear(Options):
    kind: Literal["linear"] = "linear"
    slope: float = 1.0


class Flat(Options):
    kind: Literal["flat"] = "flat"


class Neulite(Options):
    curriculum: bool = True
    """Whether the curriculum-aware loss is used."""
    coadaptation: bool = True
    """Whether the tail of the previous block is trained too."""
    schedule: Literal["cyclic", "sequential"] = "cyclic"
    """Order of the stages."""
    ramp: Annotated[Linear | Flat, Field(discriminator="kind"), BareKind()] = Linear()
    """How the weights of the loss change from stage to stage."""
    weights: tuple[float, ...] = ()
    """One weight per stage."""
    blocks: int | Literal["all"] = "all"
    """How many blocks are trained."""
    warm_up: bool | int = False
    """Whether there are rounds of warm-up, or how many."""


class Fedavg(Options):
    memory_limit: bool = True
    """Whether devices that do not fit are denied."""


class UniformMemory(Options):
    low: Bytes
    """Least available memory."""
    high: Bytes
    """Most available memory."""


class Explicit(Options):
    values: tuple[Bytes, ...] = Field(min_length=1)
    """Available memory of each device, in order."""


class Markov(Options):
    mean_on: Seconds
    """Mean time online."""
    mean_off: Seconds
    """Mean time offline."""


class Uniform(Options):
    devices_per_round: int = Field(default=10, ge=1)
    """How many devices are chosen."""


def _never(*arguments: Any) -> Any:
    raise AssertionError(f"a fake component is never built, but was with {arguments}")


def _fake(kind: str, options: type[Options], **more: Any) -> Component:
    return Component(
        kind=kind, summary=f"The fake {kind}.", source=f"source of {kind}", options=options, build=_never, **more
    )


DIGITS = _fake("digits", Digits)
CIFAR10 = _fake("cifar10", Digits)
IID = _fake("iid", Iid)
DIRICHLET = _fake("dirichlet", Dirichlet)
RESNET18 = _fake("resnet18", Nothing)
TORCHVISION = _fake("torchvision", Nothing, takes_argument=True)
NEULITE = _fake("neulite", Neulite)
FEDAVG = _fake("fedavg", Fedavg)
UNIFORM = _fake("uniform", Uniform)
SYNCHRONOUS = _fake("synchronous", Nothing)
RAY = _fake("ray", Nothing)
UNIFORM_MEMORY = _fake("uniform", UniformMemory)
EXPLICIT = _fake("explicit", Explicit)
ALWAYS = _fake("always", Nothing)
MARKOV = _fake("markov", Markov)
CONSTANT = _fake("constant", Nothing)
LINES = _fake("lines", Nothing)
NOT_A_COMPONENT = 3

GROUPS = {
    "neulite_sim.datasets": {"cifar10": "CIFAR10", "digits": "DIGITS"},
    "neulite_sim.partitions": {"dirichlet": "DIRICHLET", "iid": "IID"},
    "neulite_sim.architectures": {"resnet18": "RESNET18", "torchvision": "TORCHVISION"},
    "neulite_sim.methods": {"fedavg": "FEDAVG", "neulite": "NEULITE"},
    "neulite_sim.selectors": {"uniform": "UNIFORM"},
    "neulite_sim.protocols": {"synchronous": "SYNCHRONOUS"},
    "neulite_sim.backends": {"ray": "RAY"},
    "neulite_sim.available_memory": {"explicit": "EXPLICIT", "uniform": "UNIFORM_MEMORY"},
    "neulite_sim.availability": {"always": "ALWAYS", "markov": "MARKOV"},
    "neulite_sim.memory_motion": {"constant": "CONSTANT"},
    "neulite_sim.trace_importers": {"lines": "LINES"},
}

SCENARIO = """\
# A complete scenario of fake components.
name: example
seed: 42
data: {kind: digits, partition: {kind: dirichlet, alpha: 0.5}}
model: {kind: resnet18}
training: {epochs: 5, batch_size: 64, learning_rate: 0.01, weight_decay: 5e-4}
population:
  devices: 100
  groups:
    - {device: jetson-nano-4gb, share: 0.5}
    - {device: jetson-tx2-8gb, share: 0.5}
  available_memory: {kind: uniform, low: 100MB, high: 900MB}
method: {kind: neulite, curriculum: false}
selection: {kind: uniform, devices_per_round: 10}
stop: {rounds: 400, target_accuracy: 0.8, virtual_time: 48h}
"""

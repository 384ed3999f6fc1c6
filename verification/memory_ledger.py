"""Predicted against tracked peaks on real tensors: every architecture, every method's submodels, and every option.

Run it from the checkout: `python verification/memory_ledger.py [--models lenet,vit]`. It takes some minutes on two
cores. The networks are the real ones at a quarter of their width on small images: the peaks differ, the operators do
not. Prints a line per architecture and method, the worst relative error, and fails where that is above 1 percent.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from neulite_sim import registry
from neulite_sim.errors import ScenarioError
from neulite_sim.methods.contract import Method, Setting
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import Trainee
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.profile import profile
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training

LARGEST_ERROR = 0.01
WIDTH = 0.25
BATCHES = (8, 32)
OPTIMIZERS = ("sgd", "adam")
SHAPES = {"vgg11_bn": (3, 32, 32), "squeezenet": (3, 32, 32)}
"""Other networks take images of 16x16 pixels; these shrink them further than that."""
OPTIONS = {"vit": {"patch": 4, "dim": 64, "heads": 4, "depth": 6}}
TEXTS = {
    "gpt": {"preset": "gpt-0.8m"},
    "gpt-3m": {"preset": "gpt-3m"},
    "gpt-11m": {"preset": "gpt-11m"},
    "bert": {"depth": 3, "dim": 32, "heads": 4},
}
"""Language models, three sizes of gpt at their full width, on sequences of 16 out of 64 tokens."""
VARIANTS: dict[str, dict[str, object]] = {
    "bf16": {"precision": "bf16"},
    "micro-batches": {"micro_batch_size": 3},
    "checkpointing": {"checkpointing": True},
    "features kept": {"prefix_cache": "device"},
    "all three": {"precision": "bf16", "micro_batch_size": 3, "checkpointing": True},
}
PARTS = tuple(itertools.product((False, True, 2), ("none", "conv", "conv-bn-relu")))
"""Tails and surrogates of NeuLite; where blocks have fewer layers than a tail, the whole block is trained."""
SUBSET = (
    "fedavg", "neulite", "lora", "fedra", "zeroth-order", "federated-dropout", "partial-variables", "slt", "cocofl",
    "fedepth", "profl",
)  # fmt: skip
"""Methods on which the variants are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One submodel trained in one way: predicted and tracked peak in bytes."""

    label: str
    predicted: int
    measured: int

    @property
    def relative_error(self) -> float:
        """Return how far the measurement is from the prediction, as a share of it."""
        return abs(self.measured / self.predicted - 1)


def blueprint_of(model: str) -> Blueprint:
    """Return a narrow network of the architecture, or a language model."""
    if model in TEXTS:
        found = registry.component("model", model.partition("-")[0])
        predicts = model.startswith("gpt")
        spec = InputSpec(
            shape=(16,),
            vocabulary=64,
            num_classes=64 if predicts else 4,
            target_shape=(16,) if predicts else (),
            predicts_tokens=predicts,
        )
        return Blueprint(architecture=found.build(found.options(**TEXTS[model])), spec=spec, name=model)
    found = registry.component("model", model)
    architecture = found.build(found.options(**OPTIONS.get(model, {})))
    shape = SHAPES.get(model, (3, 16, 16))
    return Blueprint(architecture=architecture, input_shape=shape, num_classes=10, width=WIDTH, name=model)


def method_of(name: str, blueprint: Blueprint, **options: object) -> Method:
    """Return the method at its defaults, or with options."""
    num_blocks = blueprint.build_meta().num_blocks
    found = registry.component("method", name)
    setting = Setting(num_blocks=num_blocks, num_devices=10, max_rounds=2 * num_blocks, seed=0)
    method: Method = found.build(found.options(**options), setting)
    return method


def tried() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yield a label, a method and its options: each method at its defaults, some with others as well."""
    for name in registry.names("method"):
        yield name, name, {}
    for tail, surrogate in PARTS:
        if (tail, surrogate) != (True, "conv"):
            yield f"neulite {tail} {surrogate}", "neulite", {"tail": tail, "surrogate": surrogate}
    for aggregation in ("flora", "ffa", "fedsa"):
        yield f"lora {aggregation}", "lora", {"aggregation": aggregation}
    yield "lora hetlora", "lora", {"aggregation": "hetlora", "ranks": (8, 2, 0)}
    yield "zeroth-order, 2 steps", "zeroth-order", {"steps": 2, "differences": "forward", "perturbations": 2}
    yield "zeroth-order, pool", "zeroth-order", {"pool": 16, "noise": "rademacher"}


def comparisons(method: Method, blueprint: Blueprint, name: str) -> Iterator[Comparison]:
    """Yield every submodel at both batch sizes with both optimizers, and at the small one with each variant."""
    for submodel in method.submodels:
        for batch_size in BATCHES:
            for optimizer in OPTIMIZERS:
                training = Training(batch_size=batch_size, optimizer=optimizer)
                yield compared(method, submodel, blueprint, training, f"{submodel}, batch {batch_size}, {optimizer}")
        for label, options in VARIANTS.items() if name in SUBSET else ():
            if name == "zeroth-order" and "checkpointing" in options:
                # It keeps nothing that could be computed again.
                continue
            training = Training(batch_size=BATCHES[0], **options)
            yield compared(method, submodel, blueprint, training, f"{submodel}, batch {BATCHES[0]}, {label}")


def compared(method: Method, submodel: str, blueprint: Blueprint, training: Training, label: str) -> Comparison:
    """Return the prediction on fake tensors beside the peak of a real step."""

    def build() -> Trainee:
        return method.trainee(submodel, blueprint)

    how = {"spec": blueprint.spec, "batch_size": training.batch_size, "training": training}
    predicted = profile(submodel, build, **how).peak_memory_bytes
    return Comparison(label=label, predicted=predicted, measured=audit(build, **how).total)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and return 0 where every error is small enough, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = {*registry.names("model"), *TEXTS} - {"torchvision", "timm", "transformers"}
    models = sorted(name for name in names if name not in ("given", "python"))
    parser.add_argument("--models", default=",".join(models), help="comma-separated architectures")
    parser.add_argument("--methods", default="", help="comma-separated kinds of methods; all where it is not given")
    given = parser.parse_args(arguments)
    chosen, kinds = given.models.split(","), given.methods.split(",") if given.methods else registry.names("method")
    torch.manual_seed(0)
    start = time.monotonic()
    worst, count = Comparison(label="none", predicted=1, measured=1), 0
    print(f"{'model':<11} {'method':<28} {'compared':>8} {'largest error':>14}  where")
    for model in chosen:
        blueprint = blueprint_of(model)
        for label, name, options in tried():
            if name not in kinds:
                continue
            try:
                method = method_of(name, blueprint, **options)
            except ScenarioError:
                # It does not act on this model (profl on one block).
                continue
            if method.scales_width and model == "logistic":
                continue
            try:
                method.trainee(method.submodels[0], blueprint)
            except ScenarioError as refusal:
                print(f"{model:<11} {label:<28} refused: {refusal}", flush=True)
                continue
            found = list(comparisons(method, blueprint, name))
            largest = max(found, key=lambda item: item.relative_error)
            worst, count = max(worst, largest, key=lambda item: item.relative_error), count + len(found)
            print(
                f"{model:<11} {label:<28} {len(found):>8} {largest.relative_error:>14.3%}  {largest.label}", flush=True
            )
    seconds = time.monotonic() - start
    print(f"{count} comparisons in {seconds:.0f} s; worst relative error {worst.relative_error:.3%} ({worst.label})")
    return int(worst.relative_error > LARGEST_ERROR)


if __name__ == "__main__":
    sys.exit(main())

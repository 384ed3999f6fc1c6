"""The job of benchmarks/throughput.py on pfl-research's simulated backend, built as its CIFAR10 benchmark is.

    PYTHONPATH=benchmarks python benchmarks/peers/pfl/train.py [--rounds 20] [--threads 2]

One process, PyTorch with that many threads; under torchrun with `--threads 1` as many processes of one thread, which
share each round's users. Prints one line of JSON: seconds at the ends of the rounds, and when the first ended.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import types
from functools import partial

import numpy as np
import throughput
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByUser
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel


def loss(self: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, eval: bool = False) -> torch.Tensor:
    """Return the mean loss of a batch, as pfl asks a model for it."""
    self.eval() if eval else self.train()
    return torch.nn.functional.cross_entropy(self(inputs), targets)


@torch.no_grad()
def metrics(
    self: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, eval: bool = True
) -> dict[str, Weighted]:
    """Return the sums of a batch's losses and right answers, as pfl asks a model for them."""
    self.eval() if eval else self.train()
    outputs = self(inputs)
    right = (outputs.argmax(-1) == targets).sum().item()
    total = torch.nn.functional.cross_entropy(outputs, targets, reduction="sum").item()
    return {"loss": Weighted(total, len(inputs)), "accuracy": Weighted(right, len(inputs))}


class Watch(TrainingProcessCallback):
    """Notes when training began, and when each central iteration ended."""

    def __init__(self) -> None:
        self.begun_s, self.ends_s, self.first_at = 0.0, [], 0.0

    def on_train_begin(self, *, model: PyTorchModel) -> Metrics:
        """Start the clock."""
        self.begun_s = time.perf_counter()
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Note the time."""
        self.ends_s.append(time.perf_counter() - self.begun_s)
        self.first_at = self.first_at or time.time()
        return False, Metrics()


def federated_dataset(devices: int) -> FederatedDataset:
    """Return the users: the samples of each of the job's devices, drawn at random."""
    images, labels = throughput.samples(devices)
    slices = zip(images.split(throughput.SAMPLES), labels.split(throughput.SAMPLES), strict=True)
    users = dict(enumerate(slices))
    return FederatedDataset.from_slices(users, get_user_sampler("random", range(len(users))))


def main() -> None:
    """Train the job and print its times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    throughput.add_job(parser)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002, pfl draws its users from it

    network = throughput.network()
    network.loss = types.MethodType(loss, network)
    network.metrics = types.MethodType(metrics, network)
    model = PyTorchModel(
        model=network,
        local_optimizer_create=partial(
            torch.optim.SGD, momentum=throughput.MOMENTUM, weight_decay=throughput.WEIGHT_DECAY
        ),
        central_optimizer=torch.optim.SGD(network.parameters(), 1.0),
    )
    users, watch = federated_dataset(given.devices), Watch()
    # pfl tests before and after training where the iteration divides by the frequency: in the first one alone.
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=given.rounds,
            evaluation_frequency=given.rounds + 1,
            train_cohort_size=given.devices_per_round,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(training_data=users, val_data=users, postprocessors=[WeightByUser()]),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=throughput.LEARNING_RATE, local_batch_size=throughput.BATCH
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=throughput.SAMPLES),
        callbacks=[watch],
    )
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps({"ends_s": watch.ends_s, "first_at": watch.first_at}), flush=True)


if __name__ == "__main__":
    main()

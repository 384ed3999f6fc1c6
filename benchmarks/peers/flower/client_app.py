"""What a Flower client of the job does: the epoch of its own samples, as in Flower's PyTorch quickstart."""

from __future__ import annotations

import functools

import throughput
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.utils.data import DataLoader, TensorDataset

app = ClientApp()


@functools.cache
def partitions(devices: int) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Return images and labels of every device, loaded once per worker."""
    images, labels = throughput.samples(devices)
    return images.split(throughput.SAMPLES), labels.split(throughput.SAMPLES)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model on the samples of this partition, and reply with it."""
    torch.set_num_threads(1)
    model = throughput.network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    images, labels = partitions(int(context.node_config["num-partitions"]))
    partition = int(context.node_config["partition-id"])
    loader = DataLoader(TensorDataset(images[partition], labels[partition]), batch_size=throughput.BATCH, shuffle=True)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=throughput.LEARNING_RATE,
        momentum=throughput.MOMENTUM,
        weight_decay=throughput.WEIGHT_DECAY,
    )
    model.train()
    total = 0.0
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        total += loss.item()
    metrics = MetricRecord({"train_loss": total / len(loader), "num-examples": len(loader.dataset)})
    return Message(
        content=RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message
    )

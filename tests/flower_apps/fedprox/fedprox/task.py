"""fedprox: a small network on the digits, some clients with little data."""

import torch
from sklearn.datasets import load_digits
from torch import nn


def make_model(hidden: int):
    """Return the model."""
    return nn.Sequential(nn.Linear(64, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 10))


def load_data(partition_id: int, num_partitions: int):
    """Return features and labels, more of them the higher the number."""
    digits = load_digits()
    mine = slice(partition_id, 400 + 100 * partition_id, num_partitions)
    return torch.tensor(digits.data[mine] / 16.0, dtype=torch.float32), torch.tensor(digits.target[mine])

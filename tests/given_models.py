"""Networks as researchers write them, and a component that hands one over to a scenario."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neulite_sim.models.given import given_architecture
from neulite_sim.registry import Component, Options
from neulite_sim.samples import InputSpec

IMAGES = InputSpec(shape=(1, 8, 8), num_classes=10)
TOKENS = InputSpec(shape=(12,), vocabulary=30, num_classes=3)
TAGS = InputSpec(shape=(12,), vocabulary=30, num_classes=30, target_shape=(12,))
ROWS = InputSpec(shape=(20,), num_classes=4)
SIGNALS = InputSpec(shape=(4, 40), num_classes=5)


class Residual(nn.Module):
    """Two convolutions beside a shortcut; the sum is made in place."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Conv2d(before, after, 1, stride) if stride > 1 or before != after else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y += x if self.shortcut is None else self.shortcut(x)
        return F.relu(y)


class SmallResNet(nn.Module):
    """A stem, three stages, and a classifier, with much of it written out in `forward`."""

    def __init__(self, channels: int = 8, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(Residual(channels, channels), Residual(channels, channels))
        self.layer2 = nn.Sequential(Residual(channels, 2 * channels, 2), Residual(2 * channels, 2 * channels))
        self.layer3 = nn.Sequential(Residual(2 * channels, 4 * channels, 2))
        self.fc = nn.Linear(4 * channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.bn(self.stem(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.adaptive_avg_pool2d(x, 1)
        x = F.dropout(x.view(x.size(0), -1), 0.1, self.training)
        return self.fc(x)


class Mlp(nn.Module):
    """Three hidden layers of a table's rows, or of flat images."""

    def __init__(self, features: int = 20, num_classes: int = 4, hidden: int = 32) -> None:
        super().__init__()
        self.first = nn.Linear(features, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.third = nn.Linear(hidden, hidden // 2)
        self.out = nn.Linear(hidden // 2, num_classes)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x.flatten(1)))
        x = self.dropout(torch.relu(self.norm(self.second(x))))
        return self.out(torch.tanh(self.third(x)))


class Lstm(nn.Module):
    """Embedding, two LSTM layers, and a linear layer on the last state or the last output."""

    def __init__(self, *, on_state: bool = True) -> None:
        super().__init__()
        self.on_state = on_state
        self.embedding = nn.Embedding(30, 8)
        self.lstm = nn.LSTM(8, 16, num_layers=2, dropout=0.1, batch_first=True)
        self.fc = nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        output, (state, _cell) = self.lstm(self.embedding(ids))
        return self.fc(state[-1] if self.on_state else output[:, -1])


class TimeFirstGru(nn.Module):
    """A GRU whose maps have the batch in the middle, with a first state made in `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.gru = nn.GRU(8, 16, bidirectional=True)
        self.fc = nn.Linear(32, 3)

    def forward(self, ids: Tensor) -> Tensor:
        maps = self.embedding(ids).transpose(0, 1)
        state = torch.zeros(2, ids.size(0), 16, device=ids.device)
        return self.fc(self.gru(maps, state)[0].mean(0))


class SmallTransformer(nn.Module):
    """Tokens with learned positions that the root holds, and PyTorch's own encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.positions = nn.Parameter(torch.randn(1, 12, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        _, length = ids.shape
        tokens = self.embedding(ids) * 8**0.5 + self.positions[:, :length]
        return self.fc(self.norm(self.encoder(tokens)).mean(1))


class SmallGpt(nn.Module):
    """A language model: a class per token, a causal mask in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.positions = nn.Embedding(12, 8)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True) for _ in range(3)
        )
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 30)
        self.register_buffer("mask", torch.triu(torch.full((12, 12), float("-inf")), 1))

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        tokens = self.embedding(ids) + self.positions(torch.arange(length, device=ids.device))
        for layer in self.layers:
            tokens = layer(tokens, src_mask=self.mask[:length, :length])
        return self.out(self.norm(tokens)).transpose(1, 2)


class Conv1d(nn.Module):
    """Convolutions over a signal, in one sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(4, 16, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(16, 24, 3), nn.BatchNorm1d(24), nn.ReLU(),
            nn.Conv1d(24, 24, 3), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.fc = nn.Linear(24, 5)

    def forward(self, signals: Tensor) -> Tensor:
        return self.fc(self.features(signals).mean(dim=-1))


class WithClassToken(nn.Module):
    """A vision transformer as written in tutorials: a class token and positions at the root."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 2, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 17, 8))
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(3))
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(batch, -1, -1), tokens], dim=1) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[:, 0])


def digits_net(num_classes: int, width: float, depth: int = 2) -> nn.Module:
    """Return a network of several widths, as a builder function makes it."""
    channels = max(1, round(8 * width))
    layers: list[nn.Module] = []
    before = 1
    for _ in range(depth):
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
        before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))


NETWORKS = {
    "residual": (SmallResNet, IMAGES),
    "mlp": (Mlp, ROWS),
    "lstm": (Lstm, TOKENS),
    "lstm-outputs": (lambda: Lstm(on_state=False), TOKENS),
    "gru": (TimeFirstGru, TOKENS),
    "transformer": (SmallTransformer, TOKENS),
    "gpt": (SmallGpt, TAGS),
    "conv1d": (Conv1d, SIGNALS),
    "class-token": (WithClassToken, IMAGES),
    "sequence": (lambda: digits_net(10, 1.0, depth=3), IMAGES),
    "flat": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(True), nn.Linear(16, 10)), IMAGES),
    "logistic": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), IMAGES),
    "linear": (lambda: nn.Linear(20, 4), ROWS),
}  # fmt: skip


class GivenOptions(Options):
    """Options of `handed-over`."""

    name: str = "residual"
    """Of `HANDED_OVER`."""
    blocks: int | None = None
    """How many are wished."""


HANDED_OVER: dict[str, Any] = {}
"""Models of a test, by the name that its scenario gives."""


def _build(options: GivenOptions) -> Any:
    return given_architecture(HANDED_OVER[options.name], blocks=options.blocks)


MODEL = Component(kind="handed-over", summary="a given model", source="the tests", options=GivenOptions, build=_build)
_ADDED = EntryPoint("handed-over", "given_models:MODEL", "neulite_sim.architectures")


def with_given(entry_points: Any) -> Any:
    """Return what finds the entry points of a group, this model among them."""

    def found(group: str) -> Mapping[str, EntryPoint]:
        own = {_ADDED.name: _ADDED} if group == _ADDED.group else {}
        return {**entry_points(group), **own}

    return found

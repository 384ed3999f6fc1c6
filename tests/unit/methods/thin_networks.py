"""Networks that put channels side by side, fuse, gate, shuffle and pad them: what anybody may hand over."""

import torch
import torch.nn.functional as F
from torch import nn


def thin(channels, width):
    return max(1, round(channels * width))


class Network(nn.Module):
    """Reads images of one channel; `made` builds its layers at a width, `run` is its forward pass."""

    def __init__(self, num_classes, width=1.0):
        super().__init__()
        self.made(lambda channels: thin(channels, width), num_classes)

    def forward(self, images):
        return self.run(images)


class SideBySide(Network):
    """BatchNorm, a convolution and a linear layer that read two maps of equal and of unequal widths."""

    def made(self, at, classes):
        self.a, self.b, self.c = (nn.Conv2d(1, at(n), 3, padding=1) for n in (16, 16, 8))
        self.norm, self.other = nn.BatchNorm2d(2 * at(16)), nn.BatchNorm2d(at(16) + at(8))
        self.mix = nn.Conv2d(2 * at(16) + at(16) + at(8), at(12), 3, padding=1)
        self.fc = nn.Linear(at(12) + at(16) + at(8), classes)

    def run(self, x):
        a, b, c = self.a(x), self.b(x), self.c(x)
        equal, unequal = self.norm(torch.cat([a, b], 1)), self.other(torch.cat([b, c], 1))
        mixed = self.mix(torch.cat([equal, unequal], 1)).relu()
        return self.fc(torch.cat([mixed, unequal], 1).amax((2, 3)))


class Dense(Network):
    """Each layer reads the image and all maps before it."""

    def made(self, at, classes):
        self.layers = nn.ModuleList(nn.Conv2d(1 + at(6) * n, at(6), 3, padding=1) for n in range(3))
        self.norm, self.fc = nn.BatchNorm2d(1 + at(6) * 3), nn.Linear((1 + at(6) * 3) * 4, classes)

    def run(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x).relu()], 1)
        return self.fc(F.adaptive_avg_pool2d(self.norm(x), 2).flatten(1))


class Recurrent(Network):
    """Gates of GRU, LSTM and RNN, in both directions and in two layers, and what reads both."""

    def made(self, at, classes):
        self.gru = nn.GRU(8, at(6), 2, batch_first=True, bidirectional=True)
        self.lstm = nn.LSTM(2 * at(6), at(10), batch_first=True, bidirectional=True)
        self.rnn, self.fc = nn.RNN(2 * at(10), at(4), batch_first=True), nn.Linear(at(4), classes)

    def run(self, x):
        return self.fc(self.rnn(self.lstm(self.gru(x[:, 0])[0])[0])[0][:, -1])


class Cells(Network):
    def made(self, at, classes):
        self.lstm, self.gru = nn.LSTMCell(8, at(6)), nn.GRUCell(at(6), at(10))
        self.fc = nn.Linear(at(10), classes)

    def run(self, x):
        state, hidden = None, None
        for row in x[:, 0].unbind(1):
            state = self.lstm(row, state)
            hidden = self.gru(state[0], hidden)
        return self.fc(hidden)


class Fused(Network):
    """Attention whose queries, keys and values are one projection, by head, and a gated feed-forward layer."""

    heads = 2

    def made(self, at, classes):
        self.embed, self.qkv = nn.Linear(8, at(12)), nn.Linear(at(12), 3 * self.heads * at(4))
        self.out, self.gate = nn.Linear(self.heads * at(4), at(12)), nn.Linear(at(12), 2 * at(20))
        self.down, self.fc = nn.Linear(at(20), at(12)), nn.Linear(at(12), classes)

    def run(self, x):
        x = self.embed(x[:, 0])
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out((query @ key.transpose(2, 3) / 3).softmax(3).matmul(value).transpose(1, 2).flatten(2))
        up, gate = self.gate(x).chunk(2, -1)
        return self.fc((x + self.down(F.silu(gate) * up)).mean(1))


class Gated(Network):
    """GLU, squeeze and excitation, and pixels made of channels."""

    def made(self, at, classes):
        self.a, self.norm, self.b = (
            nn.Conv2d(1, 2 * at(8), 3, padding=1),
            nn.BatchNorm2d(at(8)),
            nn.Conv2d(at(8), at(16), 1),
        )
        self.less, self.more, self.up = (
            nn.Linear(at(16), at(4)),
            nn.Linear(at(4), at(16)),
            nn.Conv2d(at(16), 4 * at(6), 1),
        )
        self.c, self.fc = nn.Conv2d(at(6), at(6), 3), nn.Linear(at(6), classes)

    def run(self, x):
        x = self.b(self.norm(F.glu(self.a(x), 1)))
        x = x * self.more(self.less(x.mean((2, 3))).relu()).tanh()[:, :, None, None]
        return self.fc(self.c(F.pixel_shuffle(self.up(x), 2)).relu().mean((2, 3)))


class Grouped(Network):
    """Grouped and depthwise convolutions, and channels shuffled between groups."""

    def made(self, at, classes):
        self.a, self.depth = nn.Conv2d(1, 2 * at(8), 3), nn.Conv2d(2 * at(8), 4 * at(8), 3, groups=2 * at(8))
        self.mixed, self.norm = nn.Conv2d(4 * at(8), 2 * at(12), 1, groups=2), nn.BatchNorm2d(2 * at(12))
        self.groups, self.back = (
            nn.Conv2d(2 * at(12), 2 * at(10), 1, groups=2),
            nn.ConvTranspose2d(2 * at(10), at(6), 2),
        )
        self.fc = nn.Linear(at(6), classes)

    def run(self, x):
        x = self.mixed(self.depth(self.a(x)).relu())
        x = self.norm(F.channel_shuffle(x, 2))
        return self.fc(self.back(self.groups(x)).relu().mean((2, 3)))


class Padded(Network):
    """A shortcut without weights, padded with zeros at both ends, and parts of a map that go separate ways."""

    def made(self, at, classes):
        self.a, self.b = nn.Conv2d(1, 2 * at(8), 3, padding=1), nn.Conv2d(2 * at(8), 4 * at(8), 3, padding=1)
        self.norm, self.c = nn.BatchNorm2d(4 * at(8)), nn.Conv2d(3 * at(8), at(8), 1)
        self.fc, self.pad = nn.Linear(2 * at(8), classes), at(8)

    def run(self, x):
        x = self.a(x).relu()
        x = self.norm(self.b(x) + F.pad(x, (0, 0, 0, 0, self.pad, self.pad))).relu()
        most, rest = x[:, : 3 * self.pad], x[:, 3 * self.pad :]
        return self.fc(torch.cat([self.c(most), rest], 1).amax((2, 3)))


class Sequences(Network):
    """Convolutions over rows alone, of embeddings of their places, without any layer of images."""

    def made(self, at, classes):
        self.place = nn.Parameter(torch.randn(1, at(6), 8))
        self.net = nn.Sequential(
            nn.Conv1d(8, at(6), 3, padding=1), nn.BatchNorm1d(at(6)), nn.ReLU(), nn.Conv1d(at(6), at(12), 3, stride=2)
        )
        self.fc = nn.Linear(3 * at(12), 2 * at(5))
        self.last = nn.Conv1d(2 * at(5), classes, 1)

    def run(self, x):
        x = self.net[1:](self.net[0](x[:, 0].transpose(1, 2)) + self.place)
        return self.last(self.fc(x.transpose(1, 2).flatten(1)).relu()[:, :, None])[:, :, 0]


class Pairs(Network):
    """Multiplies all pairs of channels of two maps, and corrects by what comes back from a coarser one."""

    def made(self, at, classes):
        self.a, self.down = nn.Conv2d(1, at(6), 3, padding=1), nn.Conv2d(at(6), at(10), 2, 2)
        self.up, self.mix = nn.ConvTranspose2d(at(10), at(8), 2, 2), nn.Conv2d(at(8) + at(6), at(6), 1)
        self.both, self.fc = nn.Bilinear(at(6), at(10), at(4)), nn.Linear(at(4), classes)

    def run(self, x):
        x = self.a(x)
        coarse = self.down(x).relu()
        x = self.mix(torch.cat([self.up(coarse), x], 1))
        return self.fc(self.both(x.amax((2, 3)), coarse.mean((2, 3))))


class Volumes(Network):
    def made(self, at, classes):
        self.net = nn.Sequential(nn.Conv3d(1, at(6), 3, padding=1), nn.BatchNorm3d(at(6)), nn.ReLU(), nn.MaxPool3d(2))
        self.more, self.fc = nn.Conv3d(at(6), at(10), 2), nn.Linear(at(10) * 9, classes)

    def run(self, x):
        return self.fc(self.more(self.net(x.expand(-1, 8, -1, -1)[:, None])).amax(2).flatten(1))


FOLLOWED = (SideBySide, Dense, Recurrent, Cells, Fused, Gated, Grouped, Padded, Sequences, Pairs, Volumes)

"""Fake tensors of this project are what PyTorch's are, and cost no import."""

from __future__ import annotations

import inspect
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from neulite_sim.models.fakes.mode import RULES, FakeMode

aten = torch.ops.aten


class Comparing(FakeMode):
    """Asks PyTorch as well, and keeps count of the operators that it does not have to ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self._is_asking = False

    def answer(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the project's answer, once it is found to be PyTorch's."""
        if self._is_asking:
            return NotImplemented
        made = super().answer(func, args, kwargs)
        if made is NotImplemented:
            self.asked[str(func)] += func.namespace == "aten"
            return made
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        # What changes how a tensor looks at its storage, or a number that is known, cannot be done twice.
        is_once = func in (aten.as_strided_.default, aten.lift_fresh.default) or func.namespace != "aten"
        if not is_once and all(isinstance(each, FakeTensor) and each.constant is None for each in tensors):
            self._is_asking = True
            theirs = self.dispatch(func, (), args, kwargs)
            self._is_asking = False
            assert told(made, tensors) == told(theirs, tensors), (str(func), told(tensors, ()))
        self.answered[str(func)] += 1
        return made


def told(made: Any, beside: Any) -> list[Any]:
    """Return all that there is to know of fake tensors, and which of others they are or share a storage with."""
    return [None if each is None else _told(each, beside) for each in tree_leaves(made)]


def _told(tensor: FakeTensor, beside: list[Tensor]) -> tuple[Any, ...]:
    with torch._C._DisableTorchDispatch():
        address = tensor.untyped_storage()._cdata
        shares = [place for place, each in enumerate(beside) if each.untyped_storage()._cdata == address]
        held = {name: value for name, value in vars(tensor).items() if name not in ("fake_mode", "constant")}
        return (
            *(tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), tensor.dtype, tensor.fake_device),
            *(tensor.untyped_storage().nbytes(), tensor.requires_grad, str(torch._C._dispatch_key_set(tensor))),
            *(shares, [place for place, each in enumerate(beside) if each is tensor], held),
        )


@contextmanager
def comparing() -> Iterator[Comparing]:
    """Compare what happens within, of which something is answered."""
    with Comparing() as mode:
        yield mode
    assert mode.answered


def steps(network: nn.Module, *shape: int, optimizer: Callable[..., torch.optim.Optimizer], layout: Any) -> None:
    """Take two steps of training."""
    network = network.to(memory_format=layout)
    images = torch.randn(shape)
    images = images.to(memory_format=layout) if images.ndim == 4 else images
    labels = torch.arange(5).expand(shape[0] // 5, 5).reshape(-1) % 3
    steps = optimizer([parameter for parameter in network.parameters() if parameter.requires_grad])
    for _ in range(2):
        steps.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels).backward()
        steps.step()


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1, foreach=False)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, foreach=False)


class Residual(nn.Module):
    """Two paths that meet again, one of them narrower."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.long = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.short = nn.Sequential(nn.Conv2d(8, 12, 1, stride=2, bias=False), nn.BatchNorm2d(12))
        self.head = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        return self.head(F.relu(self.long(maps) + self.short(maps)).mean((2, 3)))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (10, 3, 8, 8)),
    "residual at one place": (Residual, (10, 3, 1, 1)),
    "pools and resizing": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 5, padding=2, dilation=2, groups=3), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Tanh(),
            nn.Upsample(scale_factor=2), nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(6, 4, (3, 1)), nn.Sigmoid(),
            nn.Upsample((7, 5), mode="bilinear"), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
        ), (10, 3, 16, 12)),
    "one channel": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)),
        (10, 1, 8, 8)),
    "dense": (
        lambda: nn.Sequential(nn.Linear(7, 9), nn.BatchNorm1d(9), nn.GELU(), nn.SiLU(), nn.Dropout(0.2),
                              nn.Hardtanh(), nn.LogSoftmax(1), nn.Linear(9, 3)), (10, 7)),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2, output_padding=1), nn.Flatten(), nn.Linear(400, 3)),
        (10, 3, 4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_gives_what_pytorch_says(name: str, layout: Any) -> None:
    build, shape = NETWORKS[name]
    for optimizer in (sgd, adam):
        with comparing():
            steps(build(), *shape, optimizer=optimizer, layout=layout)


def test_what_is_frozen_or_only_evaluated_gives_what_pytorch_says() -> None:
    with comparing():
        network = Residual()
        network.stem.requires_grad_(False)
        network.stem.eval()
        steps(network, 10, 3, 8, 8, optimizer=sgd, layout=torch.channels_last)


def test_a_usual_step_asks_pytorch_nothing() -> None:
    with comparing() as mode:
        steps(Residual(), 10, 3, 8, 8, optimizer=sgd, layout=torch.channels_last)
    assert +mode.asked == Counter()


@st.composite
def arrangements(draw: st.DrawFn) -> list[tuple[list[int], list[int], list[int]]]:
    """Return shape, order of axes in memory and steps of each of two tensors, spread over a common shape."""
    ndim = draw(st.integers(1, 4))
    common = draw(st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim))
    made = []
    for _ in range(2):
        fewer = draw(st.integers(0, ndim - 1))
        shape = [draw(st.sampled_from([1, size])) for size in common[fewer:]]
        order = draw(st.permutations(range(len(shape))))
        made.append((shape, list(order), [draw(st.sampled_from([1, 1, 2])) for _ in shape]))
    return made


def arranged(shape: list[int], order: list[int], holes: list[int]) -> Tensor:
    whole = torch.empty([shape[axis] * holes[axis] for axis in order])
    whole = whole.permute([order.index(axis) for axis in range(len(shape))])
    return whole[tuple(slice(None, None, step) for step in holes)]


@settings(deadline=None, max_examples=150)
@given(arrangements())
@example([([2, 1], [0, 1], [1, 1]), ([1, 2, 1, 1], [3, 1, 2, 0], [1, 1, 1, 1])])
@example([([2, 1], [1, 0], [1, 1]), ([1, 1], [0, 1], [1, 1])])
def test_tensors_of_any_arrangement_meet_as_in_pytorch(given_ones: list[Any]) -> None:
    with comparing():
        one, other = (arranged(*each) for each in given_ones)
        for function in (torch.add, torch.mul, torch.div, torch.eq):
            function(one, other)
        for single in (
            torch.clone,
            Tensor.double,
            Tensor.contiguous,
            torch.relu,
            torch.neg,
            torch.empty_like,
            torch.exp,
            torch.sum,
            torch.mean,
            F.hardtanh,
            F.silu,
        ):
            single(one)
        torch.clamp(one, 0)
        torch.where(one > 0, one, other)
        torch.ops.aten.threshold_backward(one, one, 0)
        torch.stack([one, one])
        torch.cat([one, one])
        torch.addcmul(one, other, other)
        one / 2 + other
        1 - one
        for axis in range(one.ndim):
            one.sum(axis)
            one.mean((axis,), keepdim=True)


@st.composite
def maps(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """Return shape, order of axes in memory and a number of channels to come."""
    shape = [draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))]
    order = draw(st.sampled_from([[0, 1, 2, 3], [0, 2, 3, 1], *itertools.permutations(range(4))]))
    return shape, list(order), draw(st.integers(1, 3))


@settings(deadline=None, max_examples=20)
@given(maps())
@example(([2, 1, 1, 1], [0, 2, 3, 1], 1))
def test_layers_of_maps_of_any_arrangement_give_what_pytorch_says(given_one: tuple[list[int], list[int], int]) -> None:
    shape, order, channels = given_one
    size = 2 if min(shape[2:]) > 1 else 1
    with comparing():
        images = arranged(shape, order, [1, 1, 1, 1]).requires_grad_()
        convolution = nn.Conv2d(shape[1], channels, size).to(memory_format=torch.channels_last)
        layers: list[Callable[[Tensor], Tensor]] = [
            convolution, nn.ConvTranspose2d(shape[1], channels, 2), nn.BatchNorm2d(shape[1]).eval(), nn.Tanh(), nn.SiLU(),
            lambda each: F.max_pool2d(each, size), lambda each: F.pad(each, (1, 0, 2, 1)), nn.ReLU(), nn.GELU(),
            lambda each: F.interpolate(each, scale_factor=2), lambda each: F.mse_loss(each, each.detach()),
            lambda each: F.interpolate(each, (3, 4), mode="bilinear"), lambda each: F.log_softmax(each, 1),
            lambda each: each.masked_fill(each > 0, 0.0), lambda each: each.narrow(1, 0, 1), nn.AdaptiveAvgPool2d(1),
            lambda each: torch.cat([each, each], 1), lambda each: torch.stack([each, each]),
        ]  # fmt: skip
        if shape[0] * shape[2] * shape[3] > 1:
            layers.append(nn.BatchNorm2d(shape[1]))
        for layer in layers:
            layer(images).sum().backward()


@pytest.mark.parametrize("func", RULES, ids=str)
def test_a_rule_takes_all_that_its_operator_may_be_called_with(func: Any) -> None:
    arguments = func._schema.arguments
    plain = [None if argument.default_value is None else argument.default_value for argument in arguments]
    places = [argument.name for argument in arguments if not argument.kwarg_only]
    named = {argument.name: value for argument, value in zip(arguments, plain, strict=True) if argument.kwarg_only}
    needed = sum(1 for argument in arguments if not argument.kwarg_only and not argument.has_default_value())
    for count in range(needed, len(places) + 1):
        inspect.signature(RULES[func]).bind(*plain[:count], **named)


def test_one_number_keeps_its_value_and_a_counter_counts() -> None:
    for mode in (FakeMode(), FakeTensorMode()):
        with mode:
            counter = torch.tensor(3)
            counter.add_(1)
            assert counter.item() == 4
            counter.zero_()
            assert counter.item() == 0
            assert (torch.tensor([2.5]) * 2).item() == 5.0
            assert torch.tensor([1.0, 2.0]).shape == (2,)


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.empty(2, 3) + torch.empty(4),
        lambda: torch.empty(2, 3) @ torch.empty(2, 3),
        lambda: torch.empty(2, 3).add_(torch.empty(4, 3)),
        lambda: F.conv2d(torch.empty(1, 3, 8, 8), torch.empty(4, 2, 3, 3)),
        lambda: F.conv2d(torch.empty(1, 3, 2, 2), torch.empty(4, 3, 3, 3)),
        lambda: F.max_pool2d(torch.empty(1, 3, 2, 2), 4),
        lambda: torch.cat([torch.empty(2, 3), torch.empty(2, 4)]),
        lambda: F.cross_entropy(torch.empty(2, 3), torch.empty(4, dtype=torch.long)),
        lambda: torch.empty(2, 3).sum(5),
        lambda: torch.empty(2, 3).item(),
        lambda: torch.empty(2, dtype=torch.long).div_(2),
        lambda: torch.empty(2, dtype=torch.long).sqrt_(),
        lambda: torch.empty(2, dtype=torch.long).add_(1.5),
        lambda: torch.empty(2, dtype=torch.long).uniform_(),
        lambda: torch.empty(2).normal_(0, -1),
        lambda: torch.empty(2).uniform_(2, 1),
        lambda: torch.empty(2).bernoulli_(1.5),
        lambda: torch.mm(torch.empty(2, 3, 3), torch.empty(2, 3, 3)),
        lambda: torch.bmm(torch.empty(3, 3), torch.empty(3, 3)),
        lambda: torch.addmm(torch.empty(3), torch.empty(2, 3, 3), torch.empty(2, 3, 3)),
        lambda: F.softmax(torch.empty(2, 3), 2),
        lambda: F.log_softmax(torch.empty(2, 3), -3),
        lambda: torch.cat([torch.empty(2, 3), torch.empty(2, 3)], 2),
        lambda: torch.arange(3, 1),
        lambda: torch.arange(3, 1, 0),
        lambda: F.max_pool2d(torch.empty(1, 3, 8, 8), 3, padding=2),
        lambda: F.max_pool2d(torch.empty(1, 3, 8, 8), 3, dilation=0),
        lambda: F.conv2d(torch.empty(1, 3, 8, 8), torch.empty(4, 3, 3, 3), stride=0),
        lambda: F.conv2d(torch.empty(1, 3, 8, 8), torch.empty(4, 3, 3, 3), padding=-1),
        lambda: F.conv_transpose2d(torch.empty(1, 3, 8, 8), torch.empty(3, 4, 3, 3), output_padding=1),
        lambda: F.pad(torch.empty(1, 3, 4, 4), (-5, 0)),
        lambda: F.interpolate(torch.empty(1, 3, 4, 4), size=(0, 4)),
        lambda: torch.empty(2, 3).masked_fill(torch.empty(4, dtype=torch.bool), 0.0),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_the_words_of_pytorch_or_passes_as_there(call: Callable[[], Any]) -> None:
    said: list[Any] = []
    for mode in (FakeMode(), FakeTensorMode()):
        with mode:
            try:
                said.append(told(call(), ()))
            except Exception as error:
                said.append((type(error), str(error)))
    assert said[0] == said[1]


def test_what_is_not_known_here_is_asked_of_pytorch() -> None:
    with comparing() as mode:
        signal = torch.randn(4, 8)
        spectrum = torch.fft.rfft(signal)
        whole = torch.arange(6, dtype=torch.float32)
        halved = signal.to(torch.complex64) + spectrum.shape[-1]
    assert (tuple(spectrum.shape), spectrum.dtype, whole.dtype, halved.dtype) == (
        *((4, 5), torch.complex64, torch.float32, torch.complex64),
    )
    assert mode.asked


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13),
    reason="older ones import it as they build on no device",
)
def test_a_first_profile_imports_neither_compiler_nor_sympy() -> None:
    code = (
        "import json, sys\n"
        "from neulite_sim.cli import main\n"
        "try: main()\n"
        "finally: print(json.dumps(sorted({'torch._dynamo', 'sympy', 'torch.distributed.tensor'} & set(sys.modules))))"
    )
    words = ["scenarios/jetson_mix.yaml", "--no-cache", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, "profile", *words], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


ODD = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        assert name not in ("sympy", "torch._dynamo", "torch.fx.experimental.symbolic_shapes", "torch.distributed.tensor")

import torch
from torch import Tensor
from neulite_sim.models.fakes.mode import FakeMode
sys.meta_path.insert(0, Refusing())
with FakeMode():
    base = torch.empty(4, 3, 6, 6)
    tensors = [base, base.to(memory_format=torch.channels_last), base.permute(3, 1, 0, 2), base[:, :1, ::2, 1:4],
               base[:1], base.select(2, 1), torch.empty(4, 512)[:, 3:4], torch.empty(5).expand(3, 5), torch.empty(()),
               torch.empty(2, 3).t()]
    whole = torch.empty(2, 3, dtype=torch.long).t()
    whole.clone(), whole.float(), whole.contiguous(), whole.sum(), whole.zero_(), whole == whole, whole.unbind()
    for tensor in tensors:
        for call in (torch.clone, torch.detach, Tensor.contiguous, torch.sum, torch.zeros_like, torch.neg, Tensor.double,
                     lambda each: each.to(torch.float16), lambda each: each.copy_(each), lambda each: each.unsqueeze(0),
                     lambda each: each.new_zeros(3), lambda each: each.new_empty(2, 2), lambda each: each + each,
                     lambda each: each * each, lambda each: each.zero_(), lambda each: each.fill_(1),
                     lambda each: each.add_(each), lambda each: each == each):
            call(tensor)
        for axis in range(tensor.ndim):
            tensor.squeeze(axis), tensor.select(axis, 0), tensor.split(1, axis), tensor.unbind(axis)
            tensor.transpose(axis, 0), tensor.narrow(axis, 0, 1)
        if tensor.is_contiguous():
            tensor.view(-1)
    torch.full((2, 3), 1.0), torch.ones(3), torch.empty_strided((2, 2), (1, 2)), torch.scalar_tensor(2.0)
    torch.randn(3), torch.rand(3), torch.randint(3, (2,)), torch.arange(5), torch.tensor([1, 2]), torch.tensor(1.0)
    torch.empty(3).normal_().uniform_().bernoulli_(0.5)
"""


def test_the_usual_operators_import_nothing_in_whatever_way_tensors_lie() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ODD], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_rules_say_the_same_whatever_was_asked_before() -> None:
    """An operator that PyTorch answered leaves nothing that the next one sees."""
    shapes = itertools.product((1, 3), (1, 4))
    with comparing():
        for first, second in shapes:
            torch.fft.rfft(torch.randn(8))
            torch.relu(torch.randn(first, second)).sum()

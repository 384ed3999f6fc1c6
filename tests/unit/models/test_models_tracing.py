"""What following a `forward` may take for what: stand-ins are tensors, and what cannot be repeated is refused in words."""

import copy
import functools
import io
import itertools
import logging
import operator
import pickle
import random
from collections import OrderedDict
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from given_models import ROWS
from torch import nn

from neulite_sim.errors import ScenarioError
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.given import given_architecture
from neulite_sim.models.noise import noise
from neulite_sim.models.traced import BATCHES
from neulite_sim.models.tracing import recorded, samples_without_numbers, without_numbers
from neulite_sim.models.trainee import FullModel
from neulite_sim.profiling.profile import profile
from neulite_sim.scenario.schema import Training

BATCH = 5


class Chain(nn.Module):
    """Three layers, with what a test says after each but the last."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Linear(20, 8), nn.Linear(8, 8), nn.Linear(8, 8))
        self.fc = nn.Linear(8, 4)
        self.prepare()

    def prepare(self):
        pass

    def between(self, x):
        return x

    def forward(self, x):
        for layer in (self.a, self.b, self.c):
            x = self.between(layer(x))
        return self.fc(x.tanh())


def blocks_and_remarks(network, spec=ROWS):
    """Return the model that a network of one's own is, and what is said of it, having compared both to the bit."""
    architecture = given_architecture(network).settled(spec, batch_size=16, state_copies=1)
    model = architecture(spec, 1.0)
    whole = copy.deepcopy(network)
    for is_training in (True, False, True):
        inputs = noise(spec, BATCH)
        found = []
        for either in (model.train(is_training), whole.train(is_training)):
            either.zero_grad()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(5)
                found.append(either(inputs))
                found[-1].square().sum().backward()
        assert torch.equal(*found)
    gradients = [sorted(p.grad.abs().sum().item() for p in either.parameters()) for either in (model, whole)]
    assert gradients[0] == gradients[1]
    return model, architecture.remarks


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is turned around."""

    @staticmethod
    def forward(context, x):
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient):
        return -gradient


class Straight(torch.autograd.Function):
    """The sign, whose gradient passes where the number is small; the number of classes is an argument."""

    @staticmethod
    def forward(context, x, limit):
        context.save_for_backward(x)
        context.limit = limit
        return x.sign()

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        return gradient * (x.abs() < context.limit), None


class Apart(torch.autograd.Function):
    """Keeps what its backward pass needs apart from its forward, and has a default."""

    @staticmethod
    def forward(x, factor=3.0):
        return x * factor

    @staticmethod
    def setup_context(context, inputs, output):
        context.factor = inputs[1]

    @staticmethod
    def backward(context, gradient):
        return gradient * context.factor * 7, None


class Untouched(torch.autograd.Function):
    """Returns what it reads and does nothing with it but in its backward pass."""

    @staticmethod
    def forward(context, x):
        return x

    @staticmethod
    def backward(context, gradient):
        return gradient * 5


bound_before = Untouched.apply


class Reversing(Chain):
    def between(self, x):
        return Reversed.apply(x)


class Straightening(Chain):
    def between(self, x):
        return Straight.apply(x, 0.8)


class SettingUp(Chain):
    def between(self, x):
        return Apart.apply(x)


class BoundBefore(Chain):
    def between(self, x):
        return bound_before(x)


@pytest.mark.parametrize("network", [Reversing, Straightening, SettingUp, BoundBefore])
def test_an_autograd_function_is_one_operation_with_the_backward_pass_that_it_has(network):
    model, remarks = blocks_and_remarks(network())
    assert (model.num_blocks, remarks) == (3, ())


class Checkpointed(Chain):
    def between(self, x):
        return torch.utils.checkpoint.checkpoint(torch.relu, x, use_reentrant=True)


class OfALambda(Chain):
    def between(self, x):
        return torch.utils.checkpoint.checkpoint(lambda y: y.relu(), x, use_reentrant=True)


class Subclassed(Chain):
    def between(self, x):
        return x + torch.Tensor._make_subclass(torch.Tensor, x).detach()


class Indexing(Chain):
    def prepare(self):
        self.hidden = [torch.arange(5.0)]

    def between(self, x):
        return x + (self.hidden[0][(x > 0).long()] if x.device.type == "cpu" else 0)


class Replacing(Chain):
    def between(self, x):
        y = x * 1
        y.data = x.detach() * 3
        return y


class InvisibleChange(Chain):
    def between(self, x):
        x = x * 1
        with torch._C.DisableTorchFunctionSubclass():
            torch.Tensor.mul_(x, 2)
        return x


@pytest.mark.parametrize("network", [OfALambda, Subclassed, Indexing, Replacing, InvisibleChange])
def test_what_takes_a_stand_in_for_a_tensor_ends_in_one_block_that_computes_the_same(network):
    model, remarks = blocks_and_remarks(network())
    assert model.num_blocks == 1
    assert f"{network.__name__} stays one block, since its forward cannot be taken apart: it " in remarks[0]


FOREIGN = {
    "numpy": np.asarray,
    "dlpack": torch.from_dlpack,
    "capsule": torch.utils.dlpack.to_dlpack,
    "numpy-dlpack": np.from_dlpack,
    "float": float,
    "index": operator.index,
    "copy": copy.copy,
    "deep copy": copy.deepcopy,
    "pickle": pickle.dumps,
    "engine": lambda x: torch.autograd.Variable._execution_engine.run_backward(
        (x,), (x,), False, False, (), True, True
    ),
    "index of another": lambda x: torch.arange(5.0)[x],
    "value of another": lambda x: operator.setitem(torch.zeros(8), 0, x[0]),
    "graph": lambda x: torch._C._autograd._get_data_attr(x, "grad_fn"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_code_in_c_that_takes_a_stand_in_for_a_tensor_does_not_end_the_process(name):
    class Calling(Chain):
        def between(self, x):
            return x + FOREIGN[name](x)

    with without_numbers():
        network = Calling()
        inputs = tuple(samples_without_numbers(ROWS, size) for size in BATCHES)
        with pytest.raises(Exception):  # noqa: B017, PT011
            recorded(network, inputs, lambda node: None)


def test_a_checkpoint_of_a_function_of_pytorch_is_one_operation():
    model, _ = blocks_and_remarks(Checkpointed())
    assert model.num_blocks in (1, 3)


class ByShape(Chain):
    def between(self, x):
        hidden = self.b(x)
        assert hidden.size(0) == x.size(0)
        assert hidden.shape != x[:, :4].shape
        return hidden + x if hidden.shape == x.shape else hidden


class ByBatch(Chain):
    def between(self, x):
        return x * 2 if x.size(0) == BATCH else x


class ByType(Chain):
    def between(self, x):
        return x * 2 if x.dtype == torch.float32 else x


class ByNumbers(Chain):
    def between(self, x):
        return x * 2 if x.is_meta or x.sum() > 0 else x


class ByGradient(Chain):
    def between(self, x):
        return x * 2 if x.requires_grad else x


def test_shapes_may_be_compared_and_what_else_a_forward_decides_by_is_named():
    assert blocks_and_remarks(ByShape())[1] == ()
    for network, what in ((ByBatch, "the size of the batch"), (ByType, "dtype of a tensor"),
                          (ByNumbers, "is_meta of a tensor"), (ByGradient, "requires_grad of a tensor")):  # fmt: skip
        model, (remark,) = blocks_and_remarks(network())
        assert model.num_blocks == 1
        assert f"cannot be taken apart: it decides by {what} (" in remark


class Powers(Chain):
    def between(self, x):
        kept = x.relu()
        other = kept.detach()
        other **= 2
        other //= 0.5
        return x + other + kept.detach()


def test_whatever_changes_a_tensor_in_place_is_recorded_as_such():
    assert blocks_and_remarks(Powers())[0].num_blocks == 3


class OfFirst(Chain):
    @property
    def device(self):
        return next(self.parameters()).device

    def between(self, x):
        first = next(self.parameters())
        return x.to(first.device, first.dtype) + torch.zeros(8, device=self.device) + next(self.fc.parameters()).sum()


class OfRaw(Chain):
    def between(self, x):
        return x.to(self.a._parameters["weight"].device)


def test_the_device_of_a_weight_is_asked_anew_in_each_call():
    architecture = given_architecture(OfFirst()).settled(ROWS, batch_size=16, state_copies=1)
    model = architecture(ROWS, 1.0)
    assert model(noise(ROWS, BATCH)).device == torch.device("cpu")
    blocks_and_remarks(OfFirst())
    assert (
        "its forward cannot be taken apart: it asks a tensor that it holds for its device in a way that cannot"
        in (blocks_and_remarks(OfRaw())[1][0])
    )


CALLS = [0]


class InList(Chain):
    def prepare(self):
        self.seen = []

    def between(self, x):
        self.seen.append(1)
        return x * len(self.seen)


class InDict(Chain):
    def prepare(self):
        self.state = {"inner": {"step": 0}}

    def between(self, x):
        self.state["inner"]["step"] += self.training
        return x / (1 + self.state["inner"]["step"])


class InSet(InList):
    def prepare(self):
        self.seen = set()

    def between(self, x):
        self.seen.add(len(self.seen))
        return x * len(self.seen)


class Counter:
    __slots__ = ("calls",)

    def __init__(self):
        self.calls = 0


class InObject(Chain):
    def prepare(self):
        self.counter = Counter()

    def between(self, x):
        self.counter.calls += 1
        return x * self.counter.calls


class InArray(Chain):
    def prepare(self):
        self.counts = np.zeros(3)

    def between(self, x):
        self.counts[1] += 1
        return x * self.counts[1].item()


class InIterator(Chain):
    def prepare(self):
        self.numbers = itertools.count(1)

    def between(self, x):
        return x * next(self.numbers)


class InTensor(Chain):
    def prepare(self):
        self.kept = [torch.ones(1)]

    def between(self, x):
        self.kept[0] = self.kept[0] + 1
        return x * len(self.kept)


class OfPython(Chain):
    def prepare(self):
        self.draws = random.Random(0)

    def between(self, x):
        return x * self.draws.random()


class OfNumPy(Chain):
    def prepare(self):
        self.draws = np.random.default_rng(0)

    def between(self, x):
        return x * float(self.draws.random())


class OfClass(Chain):
    known: ClassVar = {}

    def between(self, x):
        self.known[len(self.known)] = 1
        return x * 1.5


class OfGlobal(Chain):
    def between(self, x):
        CALLS[0] += 1
        return x * 1.5


class OfChild(Chain):
    def prepare(self):
        self.b.extra = {"calls": 0}

    def between(self, x):
        self.b.extra["calls"] += 1
        return x * 1.5


REMEMBERING = {
    InList: "seen", InDict: "state", InSet: "seen", InObject: "counter", InArray: "counts", InIterator: "numbers",
    InTensor: "kept", OfPython: "draws", OfNumPy: "draws", OfChild: "b.extra",
    OfClass: "what OfClass and its functions name", OfGlobal: "what OfGlobal and its functions name",
}  # fmt: skip


@pytest.mark.parametrize("network", REMEMBERING, ids=lambda kind: kind.__name__)
def test_whatever_a_forward_keeps_to_itself_keeps_the_network_whole_and_is_named(network):
    architecture = given_architecture(network()).settled(ROWS, batch_size=16, state_copies=1)
    assert architecture.remarks[0].startswith(
        f"{network.__name__} stays one block, since its forward cannot be taken apart: it changes what it remembers "
        f"beside its tensors ({REMEMBERING[network]})"
    )
    model, whole = architecture(ROWS, 1.0).train(), network().train()
    if not network.__name__.startswith("Of") or network in (OfPython, OfNumPy):
        inputs = noise(ROWS, BATCH)
        for _ in range(3):
            assert torch.equal(model(inputs), whole(inputs))


class Generating(Chain):
    def prepare(self):
        self.draws = torch.Generator()

    def between(self, x):
        return x + torch.rand(8, generator=self.draws)


def test_a_generator_of_pytorch_that_it_draws_from_keeps_it_whole_too():
    (remark,) = given_architecture(Generating()).settled(ROWS, batch_size=16, state_copies=1).remarks
    assert "its forward cannot be taken apart: it passes on an object (Generator)" in remark


class Holding(nn.Module):
    """Remembers in a submodule alone, which is called as it is."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.ModuleList([nn.Sequential(nn.Linear(20, 8), Remembering()), nn.Linear(8, 8)])
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        for layer in self.inner:
            x = layer(x).tanh()
        return self.fc(x)


class Remembering(nn.Module):
    """Scales by how often it was called."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x):
        self.calls.append(1)
        return x * len(self.calls)


def test_what_a_submodule_remembers_keeps_that_whole_and_no_more():
    model, remarks = blocks_and_remarks(Holding())
    assert (model.num_blocks, remarks) == (2, ())


class Answer(OrderedDict):
    """An answer as libraries have it: a mapping whose values are attributes, too."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Library(nn.Module):
    """Answers with a mapping."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 8))

    def forward(self, x):
        return Answer(logits=self.layers(x), hidden=x)


class LibraryWithTrain(Library):
    def train(self, mode=True):
        return super().train(mode)


class Wrapped(nn.Module):
    """Takes the logits of an answer."""

    def __init__(self, kind=Library, by_name=False):
        super().__init__()
        self.inner = kind()
        self.fc = nn.Linear(8, 4)
        self.by_name = by_name

    def forward(self, x):
        found = self.inner(x=x) if self.by_name else self.inner(x)
        return self.fc(found.logits)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Wrapped, "it returns something else than one tensor"),
        (functools.partial(Wrapped, by_name=True), "it is called with something else than one tensor by its place"),
        (functools.partial(Wrapped, LibraryWithTrain), "it has a train or a __call__ of its own"),
    ],
)
def test_what_answers_with_a_mapping_is_called_whole_and_the_reason_is_said(network, reason):
    model, remarks = blocks_and_remarks(network())
    assert model.num_blocks == 1
    assert remarks == (f"Wrapped: inner is not cut, since its forward cannot be taken apart: {reason}",) or (
        remarks[0].startswith(f"Wrapped: inner is not cut, since its forward cannot be taken apart: {reason} (inner")
    )


class Missing(Wrapped):
    def forward(self, x):
        found = self.inner(x)
        return self.fc(found.logits if self.training else found.nothing)


def test_what_an_answer_has_not_is_no_endless_question():
    with pytest.raises(ScenarioError, match=r"Missing fails on a batch .*nothing"):
        given_architecture(Missing()).settled(ROWS, batch_size=16, state_copies=1)


KEYS = ("class", "a b", "3x3", "x'y", 'x"y', "é", "None", "self", "type ", "_programs_")


class Named(nn.Module):
    """Submodules and parameters under names that no code could write."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleDict({"first": nn.Linear(20, 8), **{key: nn.Linear(8, 8) for key in KEYS}})
        self.shifts = nn.ParameterDict({key: nn.Parameter(torch.randn(8)) for key in KEYS})
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        for key, layer in self.layers.items():
            x = layer(x).tanh()
            if key in self.shifts:
                x = x + self.shifts[key]
        return self.fc(x)


def test_submodules_and_parameters_may_be_called_anything():
    model, _ = blocks_and_remarks(Named())
    assert model.num_blocks == 4
    assert {name.rpartition("shifts.")[2] for name, _ in model.named_parameters() if "shifts." in name} == set(KEYS)


class Programs(Chain):
    def prepare(self):
        self._programs = nn.Linear(8, 8)

    def between(self, x):
        return self._programs(x)


def test_a_submodule_may_be_called_as_an_attribute_of_what_it_is_cut_into():
    blocks_and_remarks(Programs())


class Averaging(Chain):
    """Statistics that are the plain mean of all batches."""

    def prepare(self):
        self.norm = nn.BatchNorm1d(8, momentum=None)

    def forward(self, x):
        return self.fc(self.c(self.norm(self.b(self.a(x).tanh()))))


@pytest.mark.parametrize("value", [Averaging, Averaging()])
def test_statistics_that_follow_from_a_count_are_charged_as_others_and_stay_what_they_are(value):
    architecture = given_architecture(value).settled(ROWS, batch_size=16, state_copies=1)
    own = Blueprint(architecture=architecture, spec=ROWS, name="own")
    training = Training(batch_size=4, learning_rate=0.1)
    found = profile("full", lambda: FullModel(own), batch_size=4, training=training, spec=ROWS)
    assert found.peak_memory_bytes > 0
    model = own.build().train()
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm1d)]
    assert [norm.momentum for norm in norms] == [None]
    blocks_and_remarks(Averaging())


def test_a_wrong_size_is_told_in_one_sentence_without_a_log_of_pytorch():
    wrong = given_architecture(nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(9, 4)))
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    loggers = [logging.getLogger(name) for name in ("", "torch", "torch._subclasses.fake_tensor", "torch.fx")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with pytest.raises(ScenarioError, match="Sequential fails on a batch of shape"):
            wrong.settled(ROWS, batch_size=16, state_copies=1)
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    assert told.getvalue() == ""

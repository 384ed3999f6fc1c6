"""What is looked up in place of an operator's answer is that answer."""

import gc
import weakref

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from neulite_sim.profiling import operators

aten = torch.ops.aten


class Looking(TorchDispatchMode):
    """Runs every operator as those who follow a step do, and counts those that were asked."""

    def __init__(self):
        super().__init__()
        self.facts = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is operators.DEVICE:
            return operators.ask_device(args)
        done = operators.run(func, args, kwargs or {})
        self.facts.append(done.facts)
        return done.result


class Asking(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _forgets():
    operators._KNOWN.clear()
    yield
    operators._KNOWN.clear()


def x(*shape, **how):
    return torch.empty(*(shape or (4, 6)), **how)


def described(tree):
    """Return all that can be seen of the tensors in a result, and which of them share a storage."""
    leaves = torch.utils._pytree.tree_leaves(tree)
    addresses = [leaf.untyped_storage()._cdata for leaf in leaves if isinstance(leaf, torch.Tensor)]
    return [
        (leaf.shape, leaf.stride(), leaf.storage_offset(), leaf.dtype, leaf.device, leaf.requires_grad,
         leaf.untyped_storage().nbytes(), leaf.constant is None, addresses.index(leaf.untyped_storage()._cdata),
         torch._C._dispatch_key_set(leaf), [leaf is other for other in leaves])
        if isinstance(leaf, torch.Tensor)
        else leaf
        for leaf in leaves
    ]  # fmt: skip


def in_place(tensor, change):
    """Return a tensor before and after a change: they must be one."""
    return tensor, change(tensor), tensor


WORK = {
    "new": lambda: x() @ x(6, 2),
    "types": lambda: [x(dtype=torch.int64) * factor for factor in (1, 1.0, True, 2.5)],
    "halves": lambda: [x(dtype=dtype) + 1 for dtype in (torch.float16, torch.bfloat16, torch.float64)],
    "default": lambda: [torch.full((2,), value) for value in (1, 1.0, True)],
    "view": lambda: (base := x(), base.t(), base[1:], base.t()[2]),
    "unsafe": lambda: (base := x(), aten._unsafe_view(base, [24])),
    "pieces": lambda: (base := x(), *base.split(2), *base.unbind(1), *base.chunk(3, 1)),
    "self": lambda: (base := x(), base.add_(base), base.add_(x()), base.mul_(base)),
    "strided": lambda: (base := x(), torch.as_strided(base, (3, 2), (2, 3), 1)),
    "out": lambda: (one := x(), other := x(), torch.add(one, one, out=other), torch.add(one, one, out=one)),
    "out of itself": lambda: (one := x(), other := x(), torch.add(one, one, out=one), torch.add(one, one, out=other)),
    "turned": lambda: in_place(x(), lambda base: base.t_()),
    "resized": lambda: in_place(x(), lambda base: base.resize_(2, 2)),
    "put": lambda: (base := x(), other := x(2), base.set_(other)),
    "constant": lambda: (step := torch.tensor(0), step.add_(1), step.add_(1)),
    "several": lambda: aten.native_layer_norm(x(4, 6), [6], None, None, 1e-5),
    "half of them": lambda: aten.convolution_backward(
        x(2, 3, 4, 4), x(2, 2, 6, 6), x(3, 2, 3, 3), [3], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, True]
    ),
    "channels last": lambda: torch.nn.functional.conv2d(
        x(2, 4, 6, 6).contiguous(memory_format=torch.channels_last), x(8, 4, 3, 3), padding=1
    ),
    "overlapping": lambda: x(1, 6).expand(4, 6) + x(),
    "empty": lambda: (x(0, 3) + 1).sum(),
    "parameter": lambda: torch.nn.Parameter(x()) * 2,
    "random": lambda: (x().uniform_(), torch.randn(3), torch.nn.functional.dropout(x(), 0.5)),
    "drawn": lambda: [x().normal_(generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)],
    "kept gradient": lambda: x(requires_grad=True).sum(),
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_an_answer_that_is_looked_up_is_the_one_that_pytorch_gives(work):
    with FakeTensorMode(), Asking():
        asked = described(work())
    for _ in range(3):
        with FakeTensorMode(), Looking():
            assert described(work()) == asked


def test_a_step_is_the_same_to_the_byte_and_asks_nothing_the_second_time(monkeypatch):
    def step():
        layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(inplace=True))
        with Looking() as looking:
            layers(x(2, 3, 8, 8)).square().mean().backward()
        return looking.facts, [described(parameter.grad) for parameter in layers.parameters()]

    with FakeTensorMode():
        first = step()
    remembered, asked = operators._remember, []
    monkeypatch.setattr(operators, "_remember", lambda call, done: asked.append(done) or remembered(call, done))
    with FakeTensorMode():
        assert step() == first
    assert asked == []
    assert sum(fact.flops for fact in first[0]) > 0


def test_an_operator_of_somebody_else_is_asked_each_time():
    sizes = iter((2, 3))

    @torch.library.custom_op("tests_of_operators::moody", mutates_args=())
    def moody(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone()

    moody.register_fake(lambda tensor: tensor.new_empty(next(sizes)))
    with FakeTensorMode(), Looking():
        assert [moody(x()).shape for _ in range(2)] == [(2,), (3,)]


def test_tensors_of_two_modes_are_told_apart():
    with FakeTensorMode() as one, Looking():
        made = x() + 1
    with FakeTensorMode() as other, Looking():
        again = x() + 1
    assert (made.fake_mode, again.fake_mode) == (one, other)


def test_what_looks_at_one_of_several_inputs_is_not_remembered():
    with FakeTensorMode() as mode:
        base, other = x(), x()
        one = operators._output_of(base.t(), operators._Call((), [base], mode))
        assert (one or operators._Output()).looks_at == 0
        assert operators._output_of(base.t(), operators._Call((), [base, other], mode)) is None


def test_real_tensors_are_computed():
    with Looking():
        assert (torch.ones(3) + torch.ones(3)).tolist() == [2, 2, 2] == (torch.ones(3) + 1).tolist()


def test_the_default_type_is_part_of_the_question():
    def made():
        with FakeTensorMode(), Looking():
            return torch.empty(2).dtype, (torch.empty(2, dtype=torch.int64) / 2).dtype

    before = made()
    torch.set_default_dtype(torch.float64)
    try:
        assert (before, made()) == ((torch.float32,) * 2, (torch.float64,) * 2)
    finally:
        torch.set_default_dtype(torch.float32)


def test_an_error_is_raised_each_time():
    for _ in range(2):
        with FakeTensorMode(), Looking(), pytest.raises(RuntimeError):
            x(4, 6) @ x(4, 6)


def test_no_tensor_and_no_mode_is_kept_alive():
    with FakeTensorMode() as mode, Looking():
        base = x()
        made = base.t() @ base
        held = weakref.ref(mode), weakref.ref(base.untyped_storage()), weakref.ref(made)
    assert operators._KNOWN
    del mode, base, made
    gc.collect()
    assert [reference() for reference in held] == [None] * 3


def test_calls_are_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(operators, "MOST_KNOWN", 4)
    with FakeTensorMode(), Looking():
        for size in range(1, 20):
            assert (x(size) + 1).shape == (size,)
            assert len(operators._KNOWN) <= 4

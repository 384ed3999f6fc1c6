"""A fingerprint is that of the data and code that a value leads to: equal for equal ones, other for others."""

import functools
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from neulite_sim.user_code.fingerprint import NotTrackedError, fingerprint

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner),
    max_leaves=8,
)


def sha256(value: Any) -> str:
    return fingerprint(value).sha256


def made(source: str, name: str = "f") -> Any:
    """Return what a source defines, as one typed at a prompt."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, "<prompt>", "exec"), space)
    return space[name]


@given(first=PLAIN, second=PLAIN)
def test_plain_values_differ_exactly_where_their_texts_do(first: Any, second: Any) -> None:
    assert (sha256(first) == sha256(second)) == (repr(first) == repr(second))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x): return x + 1", "def f(x): return x + 2"),
        ("def f(x): return x + 1", "def f(x): return x - 1"),
        ("def f(x, a=1): return x", "def f(x, a=2): return x"),
        ("def f(x, *, a=1): return x", "def f(x, *, a=2): return x"),
        ("K = 1\ndef f(x): return x + K", "K = 2\ndef f(x): return x + K"),
        ("def g(x): return 1\ndef f(x): return g(x)", "def g(x): return 2\ndef f(x): return g(x)"),
        ("def f(x): return [i + 1 for i in x]", "def f(x): return [i + 2 for i in x]"),
        ("def f(x): return lambda: x", "def f(x): return lambda: -x"),
        ("def m(k):\n  def f(x): return k\n  return f\nf = m(1)", "def m(k):\n  def f(x): return k\n  return f\nf = m(2)"),
        ("class f:\n  a = 1", "class f:\n  a = 2"),
        ("class f:\n  def g(self): return 1", "class f:\n  def g(self): return 2"),
        ("class B:\n  a = 1\nclass f(B): pass", "class B:\n  a = 2\nclass f(B): pass"),
        ("class f:\n  @property\n  def g(self): return 1", "class f:\n  @property\n  def g(self): return 2"),
        ("class f:\n  @staticmethod\n  def g(): return 1", "class f:\n  @staticmethod\n  def g(): return 2"),
        ("class C:\n  def __init__(s): s.a = 1\nf = C()", "class C:\n  def __init__(s): s.a = 2\nf = C()"),
        ("import functools\n@functools.cache\ndef f(x): return 1", "import functools\n@functools.cache\ndef f(x): return 2"),
        ("import functools\ndef g(x, a): return x\nf = functools.partial(g, a=1)",
         "import functools\ndef g(x, a): return x\nf = functools.partial(g, a=2)"),
    ],
)  # fmt: skip
def test_code_that_does_something_else_is_told_apart(one: str, other: str) -> None:
    assert sha256(made(one)) == sha256(made(one))
    assert sha256(made(one)) != sha256(made(other))


def test_code_that_does_the_same_is_not_told_apart() -> None:
    source = "def f(x):\n    return x + 1"
    assert sha256(made(source)) == sha256(made("\n\n# A remark.\n" + source))


def test_arrays_tensors_and_modules_count_by_their_content() -> None:
    array = np.arange(12.0).reshape(3, 4)
    assert sha256(array) == sha256(np.asfortranarray(array))
    assert len({sha256(each) for each in (array, array.T, array.reshape(-1), array.astype(np.float32), array + 1)}) == 5
    assert sha256(torch.zeros(2)) != sha256(torch.zeros(3))
    torch.manual_seed(0)
    net = nn.Sequential(OrderedDict(a=nn.Linear(2, 3), b=nn.ReLU()))
    before = sha256(net)
    assert before == sha256(net)
    with torch.no_grad():
        net[0].weight[0, 0] += 1
    assert sha256(net) != before


def test_the_same_value_twice_and_two_equal_ones_hold_the_same_data() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert sha256(loop) == sha256(loop)
    assert sha256({1, "a", 2.5}) == sha256({2.5, "a", 1})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (threading.Lock(), "holds a lock"),
        ({"log": open(os.devnull)}, r"holds a TextIOWrapper \(\['log'\]\)"),  # noqa: SIM115
        (made("k = (i for i in [1])\ndef f(x): return k"), r"holds a generator \(k\)"),
    ],
)
def test_what_cannot_be_tracked_is_named(value: Any, said: str) -> None:
    with pytest.raises(NotTrackedError, match=said):
        fingerprint(value)


@pytest.mark.slow
def test_fingerprints_are_the_same_in_other_processes(tmp_path: Path) -> None:
    (tmp_path / "layers.py").write_text("SCALE = 2\ndef scaled(x):\n    return x * SCALE\n")
    (tmp_path / "nets.py").write_text(
        "import numpy as np\nfrom torch import nn\nimport layers\n"
        "class Net(nn.Module):\n    KINDS = {'a', 'b', 'c'}\n"
        "    def forward(self, x):\n        return layers.scaled(x) if 'a' in {'a', 'b'} else np.abs(x)\n"
    )
    program = (
        "from nets import Net\nfrom neulite_sim.user_code.fingerprint import fingerprint\n"
        "found = fingerprint(Net)\nprint(found.sha256, *sorted(found.modules))"
    )

    def answer(seed: str) -> list[str]:
        paths = os.pathsep.join([str(tmp_path), *filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    first = answer("1")
    assert first == answer("2")
    assert first[1:] == ["layers", "nets"]
    (tmp_path / "layers.py").write_text("SCALE = 3\ndef scaled(x):\n    return x * SCALE\n")
    assert answer("1")[0] != first[0]


def test_partial_functions_of_installed_code_count_by_name() -> None:
    assert sha256(functools.partial(int, base=2)) != sha256(functools.partial(int, base=3))
    assert fingerprint(nn.Linear).modules == frozenset()

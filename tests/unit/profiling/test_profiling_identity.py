"""What decides a profile: equal for equal values and code, different for anything else, none where it cannot be said."""

import ast
import functools
import importlib
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from neulite_sim import version
from neulite_sim.methods.neulite import NeuLiteOptions
from neulite_sim.models.cnn import cnn
from neulite_sim.models.lenet import lenet
from neulite_sim.profiling import identity
from neulite_sim.profiling.identity import identity_of
from neulite_sim.profiling.roofline import OperatorKind
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training

DIFFERENT = [
    1, 1.0, True, "1", None, 0.0, -0.0, (1,), [1], ((1,),), {"a": 1}, {"a": 1.0}, {1}, frozenset({1, 2}),
    np.float32(1), np.float64(1), OperatorKind.OTHER, OperatorKind.GROUPED, cnn, lenet, InputSpec,
    functools.partial(cnn, width=1.0), functools.partial(cnn, width=0.5), functools.partial(lenet, width=1.0),
    InputSpec(shape=(1, 8, 8), num_classes=10), InputSpec(shape=(1, 8, 8), num_classes=9),
    Training(), Training(batch_size=3), Training(optimizer="adam"), NeuLiteOptions(), NeuLiteOptions(sigma=4.0),
]  # fmt: skip


@pytest.fixture(autouse=True)
def just_loaded(monkeypatch):
    """Everything that is on disk now counts as what runs."""
    monkeypatch.setattr(version, "LOADED_AT_S", time.time() + 60)


def test_different_values_have_different_identities_and_equal_ones_the_same():
    found = [identity_of(value=value) for value in DIFFERENT]
    assert None not in found
    assert len(set(found)) == len(found)
    assert [identity_of(value=value) for value in DIFFERENT] == found
    assert identity_of(value=NeuLiteOptions(sigma=4)) == identity_of(value=NeuLiteOptions(sigma=4.0))
    assert identity_of(value=1) != identity_of(values=1)


def test_the_order_of_a_set_does_not_count_and_that_of_a_mapping_does():
    assert identity_of(value={"a", "b", "c"}) == identity_of(value={"c", "b", "a"})
    assert identity_of(value={"a": 1, "b": 2}) != identity_of(value={"b": 2, "a": 1})


class Bare:
    pass


def _nested():
    def inner():
        return None

    return inner


NAMELESS = lambda: None  # noqa: E731


@pytest.mark.parametrize("value", [Bare(), object(), _nested(), NAMELESS, iter(()), np.zeros(2), (1, [Bare()])])
def test_what_cannot_be_described_has_no_identity(value):
    assert identity_of(value=value) is None


def test_a_name_that_leads_to_something_else_has_none(plugin, monkeypatch):
    assert identity_of(value=plugin.build) is not None
    before = plugin.build
    monkeypatch.setattr(plugin, "build", print)
    assert identity_of(value=before) is None


@pytest.mark.parametrize("item", ["neulite-sim", "python", "machine", "build", "torch", "torchvision", "capability"])
def test_versions_and_machine_decide(monkeypatch, item):
    before = identity_of(value=1)
    surroundings = identity._surroundings()
    monkeypatch.setattr(identity, "_surroundings", lambda: {**surroundings, item: "other"})
    assert identity_of(value=1) != before


# Code.


PLUGIN = """
import ast
import functools
from dataclasses import dataclass
from torch import nn
from my_helper import factor
from my_pack import inner
def build(shape, classes, width):
    return nn.Linear(factor, classes)
@dataclass(frozen=True)
class Named:
    paths: tuple[str, ...]
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "my_plugin.py").write_text(PLUGIN)
    (tmp_path / "my_helper.py").write_text("import my_other\nfactor = 2\n")
    (tmp_path / "my_other.py").write_text("number = 3\n")
    (tmp_path / "my_pack").mkdir()
    (tmp_path / "my_pack" / "__init__.py").write_text("")
    (tmp_path / "my_pack" / "inner.py").write_text("from . import beside\nfrom .beside import x\n")
    (tmp_path / "my_pack" / "beside.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("my_plugin", "my_helper", "my_other", "my_pack", "my_pack.inner", "my_pack.beside")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    yield importlib.import_module("my_plugin")
    for name in names:
        sys.modules.pop(name, None)


FILES = ["my_plugin.py", "my_helper.py", "my_other.py", "my_pack/__init__.py", "my_pack/inner.py", "my_pack/beside.py"]


@pytest.mark.parametrize("file", FILES)
def test_an_edited_source_makes_another_identity_wherever_it_is_imported(plugin, tmp_path, file):
    before = identity_of(value=plugin.build)
    assert before is not None
    with open(tmp_path / file, "a") as source:
        source.write("# edited\n")
    assert identity_of(value=plugin.build) not in (before, None)


@pytest.mark.parametrize("statement", ["exec('x = 1')", "__import__('os')", "import os; os.environ['x']", "y = open",
                                       "import importlib as i; i.import_module('z')", "import _struct_x as", ])  # fmt: skip
def test_code_that_cannot_be_followed_has_no_identity(plugin, tmp_path, statement):
    (tmp_path / "my_other.py").write_text(f"def later():\n    {statement}\n")
    assert identity_of(value=plugin.build) is None


def test_code_without_a_source_has_none(plugin, tmp_path):
    (tmp_path / "my_other.py").unlink()
    assert identity_of(value=plugin.build) is None


def test_an_optional_package_that_is_not_there_counts_as_missing(plugin, tmp_path):
    before = identity_of(value=plugin.build)
    (tmp_path / "my_other.py").write_text("try:\n    import not_there\nexcept ImportError:\n    pass\n")
    found = identity_of(value=plugin.build)
    assert found not in (before, None)
    (tmp_path / "not_there.py").write_text("")
    importlib.invalidate_caches()
    assert identity_of(value=plugin.build) not in (before, found, None)


def test_a_source_younger_than_the_process_may_not_be_what_runs(plugin, monkeypatch):
    monkeypatch.setattr(version, "LOADED_AT_S", time.time() - 60)
    assert identity_of(value=plugin.build) is None


def test_this_packages_own_source_decides(monkeypatch):
    before = identity_of(value=1)
    monkeypatch.setattr(identity, "_own_source", lambda: "other")
    assert identity_of(value=1) != before


def test_own_source_is_everything_that_methods_can_import(monkeypatch):
    seen = []
    monkeypatch.setattr(identity, "_digest", lambda path: seen.append(path.as_posix()) or "x")
    identity._own_source.__wrapped__()
    ends = {path.rpartition("neulite_sim/")[2] for path in seen}
    assert {"methods/neulite.py", "models/step.py", "profiling/tracer.py", "samples.py", "registry.py"} <= ends
    assert not any(name.startswith(("cli/", "engine/", "results/")) for name in ends)


def test_a_file_that_others_options_name_may_be_read(plugin, tmp_path):
    assert identity_of(value=plugin.Named((str(tmp_path / "nothing"),))) is not None
    assert identity_of(value=plugin.Named((str(tmp_path / "my_other.py"),))) is None
    assert identity_of(value=str(tmp_path / "my_other.py")) is not None


NOT_IN_STEPS = {"scipy"}
"""Fits constants to measurements, and makes no step."""


def packages_named_in(path):
    """Return the packages that a file of this project imports, looks for, or imports by name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("import_module", "find_spec"):
            said = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            yield getattr(said, "value", None) or "neulite_sim"


def test_a_profile_counts_with_the_version_of_every_package_that_steps_are_made_of():
    package = Path(identity.__file__).parents[1]
    files = [path for part in ("models", "methods", "profiling") for path in sorted((package / part).rglob("*.py"))]
    named = {name.partition(".")[0] for path in files for name in packages_named_in(path)}
    others = named - set(sys.stdlib_module_names) - {"neulite_sim"}
    assert {"torch", "timm", "transformers"} <= others
    assert others - NOT_IN_STEPS <= set(identity._VERSIONED)

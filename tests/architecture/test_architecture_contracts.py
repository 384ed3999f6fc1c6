"""The shape of the code: layers, sizes, public names, registered components, and the checkers."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from neulite_sim import registry

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "neulite_sim"
MODULES = sorted(PACKAGE.rglob("*.py"))


def run(*command):
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "ruff", "check", "."),
        ("-m", "ruff", "format", "--check", "."),
        pytest.param(("-m", "mypy"), marks=pytest.mark.slow),
        ("-c", "import sys; from importlinter.cli import lint_imports_command as main; sys.argv = ['lint']; main()"),
    ],
    ids=["ruff", "format", "mypy", "layers"],
)
def test_the_checkers_have_nothing_to_say(command):
    found = run(*command)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_functions_stay_short(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 400
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > 60
    ]
    assert not long


def test_the_loop_of_a_run_stays_on_a_few_screens():
    assert len((PACKAGE / "engine" / "federation.py").read_text(encoding="utf-8").splitlines()) < 200


@pytest.mark.parametrize("path", sorted((PACKAGE / "engine").glob("*.py")), ids=lambda path: path.stem)
def test_a_class_of_the_engine_has_few_methods_and_attributes(path):
    sizes = {
        node.name: (len(methods_of(node)), len(attributes_of(node)))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    assert {name: size for name, size in sizes.items() if size[0] > 15 or size[1] > 12} == {}


def methods_of(node):
    """Return the names of the methods and properties that a class defines."""
    return {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}


def attributes_of(node):
    """Return the names of the fields that a class declares, and of what its methods assign to `self`."""
    declared = {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}
    assigned = {
        item.attr
        for item in ast.walk(node)
        if isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store)
        if isinstance(item.value, ast.Name) and item.value.id == "self"
    }
    return declared | assigned


def test_every_component_that_this_milestone_names_is_registered_and_says_what_it_is():
    promised = {
        "data": {"digits", "synthetic", "cifar10", "cifar100", "cinic10", "fashion-mnist", "femnist", "image-folder",
                 "mini-imagenet", "array", "csv", "huggingface"},
        "partition": {"iid", "dirichlet", "shards", "natural", "table", "quantity", "flwr-datasets"},
        "model": {"resnet18", "resnet34", "vgg11_bn", "squeezenet", "vit", "cnn", "lenet", "logistic", "torchvision"},
        "method": {"fedavg", "exclusivefl", "allsmall", "heterofl", "fedrolex", "federated-dropout", "partial-variables", "depthfl", "progfed", "neulite", "profl"},
        "selection": {"uniform", "tifl", "oort"},
        "protocol": {"synchronous"},
        "backend": {"ray", "inprocess", "dry-run"},
        "available_memory": {"uniform", "lognormal", "choice", "explicit", "installed"},
        "memory_motion": {"constant", "redrawn", "walk", "trace"},
        "availability": {"always", "markov", "diurnal", "trace"},
    }  # fmt: skip
    assert promised.keys() == registry.GROUPS.keys()
    for field, names in promised.items():
        assert names <= set(registry.kinds(field))
        for name in registry.kinds(field):
            found = registry.load(field, name)
            assert found.kind == name
            assert found.summary
            assert found.source


@pytest.mark.parametrize(("group", "kind"), [("neulite_sim.methods", "method"), ("neulite_sim.selectors", "selector")])
def test_every_method_and_selector_is_kept_apart_from_the_others(group, kind):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    registered = {value.partition(":")[0] for value in project["project"]["entry-points"][group].values()}
    (contract,) = (item for item in project["tool"]["importlinter"]["contracts"]
                   if item["name"] == f"{kind} files do not know each other")  # fmt: skip
    # What adapts users' own code may build on any of them.
    assert set(contract["modules"]) == {module for module in registered if not module.endswith(".of_users")}


def test_only_seeding_makes_numpy_generators():
    makers = [
        path.relative_to(PACKAGE)
        for path in MODULES
        if any(
            word in path.read_text(encoding="utf-8")
            for word in ("default_rng(", "np.random.Generator(", "RandomState(")
        )
    ]
    assert makers == [Path("seeding.py")]


def test_only_the_console_and_the_commands_draw_with_rich():
    drawing = {
        path.relative_to(PACKAGE)
        for path in MODULES
        if any(f"{start}rich" in path.read_text(encoding="utf-8") for start in ("import ", "from "))
    }
    console = {Path("reports", f"{name}.py") for name in ("console", "dashboard", "panels", "screen")}
    assert {path for path in drawing if path.parts[0] != "cli"} == console


def test_commands_write_to_a_screen_that_knows_a_pipe_and_a_notebook():
    makers = [path.relative_to(PACKAGE) for path in MODULES if "Console(" in path.read_text(encoding="utf-8")]
    drawing = {Path("reports", f"{name}.py") for name in ("console", "plain", "screen")}
    assert {path for path in makers if path.name != "conformance.py"} <= drawing

"""No module of the package reaches itself by imports, whatever packages lie between, type checking included.

The contract of import-linter compares siblings, so that it does not see a package that imports one of its own modules
and is imported by it.
"""

from __future__ import annotations

import graphlib
from pathlib import Path

import grimp
import pytest

TYPES_ONLY = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {}\n"


def circle_in(package: str) -> list[str]:
    """Return the modules of a circle of imports, the first of them again at its end; none where there is no circle."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_reaches_itself() -> None:
    assert circle_in("neulite_sim") == []


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("plain_circle", "import plain_circle.b.y", "import plain_circle.a.x"),
        ("typed_circle", "import typed_circle.b.y", TYPES_ONLY.format("typed_circle.a.x")),
        ("late_circle", "def late():\n    import late_circle.b.y", "import late_circle.a.x"),
        ("parent_circle", "import parent_circle", ""),
    ],
)
def test_a_circle_is_seen_however_it_is_made(
    name: str, first: str, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for folder, module, text in (("a", "x", first), ("b", "y", second)):
        (tmp_path / name / folder).mkdir(parents=True)
        (tmp_path / name / folder / "__init__.py").touch()
        (tmp_path / name / folder / f"{module}.py").write_text(f"{text}\n")
    (tmp_path / name / "__init__.py").write_text("import parent_circle.a.x\n" if name == "parent_circle" else "")
    assert circle_in(name)
    (tmp_path / name / "a" / "x.py").write_text("")
    assert circle_in(name) == []

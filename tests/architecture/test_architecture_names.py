"""What has one name has it in one place."""

import ast
from pathlib import Path

import pytest

import neulite_sim
from neulite_sim.models.names import FULL

PACKAGE = Path(neulite_sim.__file__).parent


@pytest.mark.slow
def test_the_name_of_the_full_model_is_written_once():
    places = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value == FULL
    ]
    assert [place.partition(":")[0] for place in places] == ["models/names.py"], places

"""The page on verification names every script, by the command that the script itself gives."""

import ast
from pathlib import Path

import pytest

VERIFICATION = Path(__file__).parents[2] / "verification"


@pytest.mark.parametrize("script", sorted(VERIFICATION.glob("*.py")), ids=lambda script: script.name)
def test_the_page_names_a_script_and_the_script_says_how_to_run_it(script):
    command = f"python verification/{script.name}"
    assert command in (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "")
    assert f"`{command}`" in (VERIFICATION / "README.md").read_text(encoding="utf-8")

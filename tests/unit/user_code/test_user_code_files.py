"""Python files beside a scenario: run once per content, known by line where they fail."""

from pathlib import Path
from typing import Any

import pytest

from neulite_sim.errors import ScenarioError
from neulite_sim.user_code.calls import Found
from neulite_sim.user_code.files import files_beside, from_file, line_in_files, loaded_modules


def written(folder: Path, text: str, name: str = "mine.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_file_is_run_once_until_it_changes(tmp_path: Path) -> None:
    path = written(tmp_path, "made = object()\n")
    first = from_file(path, "made", key="method")
    assert from_file(path, "made", key="selection") is first
    written(tmp_path, "made = object()  # anew\n")
    assert from_file(path, "made", key="method") is not first


def test_what_it_imports_from_its_folder_belongs_to_it(tmp_path: Path) -> None:
    written(tmp_path, "VALUE = 3\n", "own_part_of_a_test.py")
    path = written(tmp_path, "from own_part_of_a_test import VALUE\nimport math\n")
    assert from_file(path, "VALUE", key="method") == 3
    assert list(files_beside(path)) == ["own_part_of_a_test.py"]
    assert "own_part_of_a_test" in {module.__name__ for module in loaded_modules()}


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("a = 1\nb = 1 / 0\n", "a", r"method.path: running \S*mine.py fails: \S*mine.py:2: ZeroDivisionError: "
                                    r"division by zero; mend the file"),
        ("a = 1\nb = (\n", "a", r"fails: \S*mine.py:2: SyntaxError: '\(' was never closed"),
        ("import no_such_package_at_all\n", "a", r"mine.py:1: No module named 'no_such_package_at_all'; install the package"),
        ("raise SystemExit(3)\n", "a", r"mine.py:1: SystemExit: 3"),
        ("median = 1\nimport os\n", "medain", r"method.name: \S* holds no 'medain'; did you mean 'median'\?"),
        ("first = 1\nsecond = 2\n", "zzz", r"holds no 'zzz'; it holds first, second$"),
        ("", "zzz", r"holds no 'zzz'; it holds nothing$"),
        ("class A:\n    b = 4\n", "A.c", r"holds no 'A.c'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path: Path, text: str, name: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        from_file(written(tmp_path, text), name, key="method")


def test_a_file_that_is_not_there_or_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ScenarioError, match=r"model.path: \S*none.py cannot be read: No such file or directory; name a"
    ):
        from_file(str(tmp_path / "none.py"), "a", key="model")
    with pytest.raises(ScenarioError, match=r"cannot be read: Is a directory"):
        from_file(str(tmp_path), "a", key="model")


def test_names_may_lead_into_classes(tmp_path: Path) -> None:
    assert from_file(written(tmp_path, "class A:\n    b = 4\n"), "A.b", key="method") == 4


def called(function: Any, supplied: dict[str, Any] | None = None, **options: Any) -> Any:
    return Found(value=function, name="f", key="method", options=options).called(supplied or {})


def test_functions_are_called_with_options_and_with_what_they_name() -> None:
    assert called(lambda setting, rate=1: (setting, rate), {"setting": 5, "seed": 6}) == (5, 1)
    assert called(lambda setting, rate=1: (setting, rate), {"setting": 5}, rate=2) == (5, 2)
    assert called(lambda **options: options, {"setting": 5}, rate=2) == {"rate": 2}
    assert called(lambda seed: seed, {"seed": 6}, seed=7) == 7


def test_a_call_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"method.options.rat: is no parameter of f; did you mean 'rate'\?"):
        called(lambda rate=1: rate, rat=2)
    with pytest.raises(ScenarioError, match=r"method.options.rate: is no parameter of f \(it takes no options\)"):
        called(lambda: 1, rate=2)
    with pytest.raises(ScenarioError, match=r"method.options: f needs 'b', which nothing fills; give it as an option"):
        called(lambda a, b: a, {"a": 1})


def test_a_call_that_fails_says_in_which_line(tmp_path: Path) -> None:
    function = from_file(written(tmp_path, "def f():\n    return {}['x']\n"), "f", key="method")
    with pytest.raises(ScenarioError, match=r"method: calling f fails: \S*mine.py:2: KeyError: 'x'"):
        called(function)
    with pytest.raises(KeyError) as caught:
        function()
    assert line_in_files(caught.value) == f"{tmp_path / 'mine.py'}:2"
    assert line_in_files(ValueError("elsewhere")) == ""


def test_a_function_that_is_called_by_places_gets_its_options_by_name() -> None:
    def found(function: Any, **options: Any) -> Any:
        return Found(value=function, name="f", key="method", options=options).with_options(2)

    assert found(lambda a, b, c=3: (a, b, c))(1, 2) == (1, 2, 3)
    assert found(lambda a, b, c=3: (a, b, c), c=4)(1, 2) == (1, 2, 4)
    assert found(lambda *all, c=3: (*all, c), c=4)(1, 2) == (1, 2, 4)
    with pytest.raises(ScenarioError, match=r"method.options.d: is no parameter of f \(it takes c\)"):
        found(lambda a, b, c=3: None, d=1)
    with pytest.raises(ScenarioError, match=r"method.options.a: is no parameter of f \(it takes no options\)"):
        found(lambda a, b: None, a=1)
    with pytest.raises(ScenarioError, match=r"method.options: f needs 'c', which nothing fills; give it as an option"):
        found(lambda a, b, c: None)
    with pytest.raises(ScenarioError, match=r"method: f takes 1 arguments and is called with 2"):
        found(lambda a: None)

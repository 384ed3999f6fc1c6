"""What is advised where a file cannot be written: only what whoever asked for it can do."""

from __future__ import annotations

from pathlib import Path

import pytest

from neulite_sim.api.result import as_json
from neulite_sim.errors import OutputError
from neulite_sim.results.writing import advising, write_whole


def test_a_function_has_no_option_to_choose_another_place_with(tmp_path: Path) -> None:
    gone = tmp_path / "gone" / "a"
    message = r"a: cannot write: No such file or directory; make room or rights there, or name another file$"
    with pytest.raises(OutputError, match=message):
        as_json({}, gone)


def test_other_advice_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^full; wait$"), advising("do that"):
        raise OutputError("full", hint="wait")
    with pytest.raises(OutputError, match=r"directory; do that$") as refused, advising("do that"):
        write_whole(tmp_path / "gone" / "a", "")
    assert refused.value.hint == "do that"
    assert isinstance(refused.value.__cause__, FileNotFoundError)

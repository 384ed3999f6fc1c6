import pytest

from neulite_sim.reports.table import TextTable

TABLE = TextTable(
    title="submodels", headers=("name", "peak"), rows=(("full", "711.8 MB"), ("stage-1", "9 MB")),
    numeric=frozenset({"peak"}), notes=("batch 128",),
)  # fmt: skip


def test_text_is_aligned_under_its_headers():
    assert TABLE.text().splitlines() == [
        "submodels",
        "name         peak",
        "-------  --------",
        "full     711.8 MB",
        "stage-1      9 MB",
        "batch 128",
    ]


def test_table_without_rows_is_its_headers():
    assert TextTable(headers=("a", "bc"), rows=()).text() == "a  bc\n-  --"


def test_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="row 1 has 1 cells, but there are 2 headers"):
        TextTable(headers=("a", "b"), rows=(("1", "2"), ("3",)))

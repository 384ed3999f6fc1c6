"""`csv`: numbers, categories, classes and owners of a table; what is wrong is named by file, line and column."""

import gzip
import re

import numpy as np
import pytest

from neulite_sim.data import csv_table
from neulite_sim.data.arrow import HandedTableOptions, handed_of_tables
from neulite_sim.data.conformance import check_dataset
from neulite_sim.data.given import given_dataset
from neulite_sim.data.image_files import Sentences
from neulite_sim.data.interpreting import dataset_of
from neulite_sim.data.tabulating import MOST_CATEGORIES
from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.seeding import stream

PEOPLE = """age,city,member,label
20,Oslo,1,no
30,Bonn,0,yes
40,Oslo,1,no
50,Rome,0,yes
60,Bonn,1,no
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def built(text, test=None, **options):
    with open("table.csv", "w", encoding="utf-8", newline="") as file:
        file.write(text)
    if test is not None:
        with open("test.csv", "w", encoding="utf-8") as file:
            file.write(test)
        options["test_path"] = "test.csv"
    return csv_table.build(csv_table.CsvOptions(path="table.csv", **options), 0)


def test_numbers_are_standardised_and_texts_one_hot(folder):
    made = built(PEOPLE, PEOPLE)
    check_dataset(made)
    ages = (np.array([20, 30, 40, 50, 60]) - 40) / np.sqrt(200)
    np.testing.assert_allclose(made.train_inputs[:, 0], ages, rtol=1e-6)
    np.testing.assert_array_equal(made.train_inputs[:, 1:4], np.eye(3)[[1, 0, 1, 2, 0]])
    assert made.train_labels.tolist() == [0, 1, 0, 1, 0]
    assert made.left_out == (
        "csv: categories made one-hot: city (3); 5 numbers per sample",
        "csv: labels are numbered in sorted order: no is 0, yes is 1",
    )


def test_a_table_of_numbers_is_what_the_arrays_are(folder):
    rng = stream(1, "tests")
    rows, classes = rng.normal(size=(30, 3)), np.arange(30) % 3
    lines = [",".join([*map(repr, map(float, row)), str(each)]) for row, each in zip(rows, classes, strict=True)]
    made = built("\n".join(["a,b,c,y", *lines]))
    arrays = given_dataset((rows, classes), name="csv")
    np.testing.assert_array_equal(made.train_inputs, arrays.train_inputs)
    np.testing.assert_array_equal(made.test_labels, arrays.test_labels)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_line_ends_and_packed_files_are_read(folder, separator):
    other = built(PEOPLE.replace(",", separator).replace("\n", "\r\n"), PEOPLE)
    assert other.train_inputs.tobytes() == built(PEOPLE, PEOPLE).train_inputs.tobytes()
    (folder / "table.csv.gz").write_bytes(gzip.compress(PEOPLE.encode()))
    packed = csv_table.build(csv_table.CsvOptions(path="table.csv.gz", test_path="test.csv"), 0)
    assert packed.train_inputs.tobytes() == other.train_inputs.tobytes()


def test_columns_may_be_ignored_taken_as_categories_or_as_owners(folder):
    made = built(PEOPLE, PEOPLE, ignore=["age"], categorical=["member"], group="city")
    assert made.train_inputs.tolist() == np.eye(2)[[1, 0, 1, 0, 1]].tolist()
    assert made.groups.tolist() == [1, 0, 1, 2, 0]


def test_a_category_that_only_the_test_part_has_is_all_zeros(folder):
    made = built(PEOPLE, PEOPLE.replace("Rome", "Lima"))
    assert made.test_inputs[3, 1:4].tolist() == [0, 0, 0]
    assert "csv: 1 test samples have a city that no training sample has: all zeros there" in made.left_out


def test_missing_cells_are_dropped_or_filled_in_as_wished(folder):
    gaps = PEOPLE.replace("40,Oslo", "?,Oslo").replace("60,Bonn", "60,NA")
    dropped = built(gaps, PEOPLE, missing="drop")
    assert len(dropped.train_labels) == 3
    assert dropped.left_out[0] == "csv: 2 of 5 lines of table.csv left out: cells are missing"
    filled = built(gaps, PEOPLE, missing="fill")
    assert filled.train_inputs[2, 0] == pytest.approx(0, abs=1e-7)
    assert filled.spec.shape == (6,)
    assert filled.left_out[0] == "csv: 2 missing cells filled in: training means, or a category of their own"


def test_classes_that_are_numbers_stay_numbers(folder):
    made = built("a,b,class\n1,2,0\n2,3,1\n4,1,2\n1,1,0\n2,2,1\n", "a,b,class\n1,2,2\n")
    assert made.test_labels.tolist() == [2]


WRONG = {
    "table.csv:3: data.missing: column 'age' holds '', which is no value; set missing: drop or fill (1 of 5 lines": (
        PEOPLE.replace("30,", ","), None, {}),
    "table.csv:4: data.missing: column 'label' holds 'NaN', which is no value; a class or an owner cannot be filled in": (
        PEOPLE.replace("40,Oslo,1,no", "40,Oslo,1,NaN"), None, {"missing": "fill"}),
    "table.csv:3: data.path: column 'age' holds '3O', no finite number, and most of its cells are numbers; mend": (
        PEOPLE.replace("30,", "3O,"), None, {}),
    "test.csv:2: data.path: column 'age' holds 'old', no finite number": (PEOPLE, PEOPLE.replace("20,", "old,"), {}),
    "table.csv:4: data.path: has 3 columns where the header has 4; give each line every column": (
        PEOPLE.replace("40,Oslo,1,no", "40,Oslo,1"), None, {}),
    "table.csv: data.path: is empty; write a header": ("", None, {}),
    "table.csv: data.path: holds a header and no line below it": ("a,b,label\n", None, {}),
    "table.csv:1: data.path: has two columns called 'a'; rename one": ("a,a,label\n1,2,3\n", None, {}),
    "table.csv:1: data.path: has one column, 'a'; separate columns by commas": ("a\n1\n", None, {}),
    "table.csv:1: data.path: begins with numbers; put a line with the names": ("1,2,3\n1,2,3\n", None, {}),
    "table.csv: data.path: every line has a missing cell; set missing: fill": (
        "a,b,label\n,1,0\n,2,1\n", None, {"missing": "drop"}),
    "table.csv:1: data.label: no column may hold the class; say which one with label: NAME, of age, city": (
        PEOPLE.replace("label", "vote"), None, {}),
    "table.csv:1: data.label: several columns may hold the class; say which one with label: NAME, of class, label": (
        PEOPLE.replace("city", "class"), None, {}),
    "data.label: there is no column 'lable' in ": (PEOPLE, None, {"label": "lable"}),
    "; did you mean 'label'?; its columns are age, city, member, label": (PEOPLE, None, {"label": "lable"}),
    "data.group: there is no column 'user'": (PEOPLE, None, {"group": "user"}),
    "data.ignore: there is no column 'user'": (PEOPLE, None, {"ignore": ["user"]}),
    "data.categorical: there is no column 'user'": (PEOPLE, None, {"categorical": ["user"]}),
    "test.csv:1: data.test_path: has no column 'city', which ": (PEOPLE, "age,member,label\n1,1,no\n", {}),
    "test.csv:2 has class maybe, of which there is no training sample": (PEOPLE, PEOPLE.replace("no", "maybe"), {}),
    "the label of ": (PEOPLE.replace("no", "1.5").replace("yes", "2"), None, {}),
    "table.csv:2 is 1.5, no class; only classification": (PEOPLE.replace("no", "1.5").replace("yes", "2"), None, {}),
    "csv: no column is left to learn from": (PEOPLE, None, {"ignore": ["age", "city", "member"]}),
    "data.channels: csv: acts only on images, and these are numbers": (PEOPLE, None, {"channels": "last"}),
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_what_is_wrong_is_named_by_file_line_and_column(words, folder):
    text, test, options = WRONG[words]
    with pytest.raises(ScenarioError) as wrong:
        built(text, test, **options)
    assert words in str(wrong.value)


def test_too_many_categories_are_names_and_not_categories(folder):
    lines = "\n".join(f"name {number},{number % 2}" for number in range(MOST_CATEGORIES + 1))
    found = f"csv: column 'who' has {MOST_CATEGORIES + 1:,} different texts, at most {MOST_CATEGORIES:,} are categories"
    with pytest.raises(ScenarioError, match=re.escape(f"{found}; leave it out with ignore: [who]")):
        built(f"who,label\n{lines}\n")


def test_a_file_that_is_not_there_or_no_text_is_named(folder):
    with pytest.raises(DataNotFoundError, match=r"there is no file at .*none\.csv"):
        csv_table.build(csv_table.CsvOptions(path="none.csv"), 0)
    (folder / "bytes.csv").write_bytes(b"a,b\n\xff,1\n")
    with pytest.raises(DataNotFoundError, match=r"bytes\.csv is not UTF-8 text"):
        csv_table.build(csv_table.CsvOptions(path="bytes.csv"), 0)


def lines_of(made):
    """Return the numbers of the lines of both parts; the first column holds them, standardised."""
    inputs = np.concatenate([made.train_inputs[:, 0], made.test_inputs[:, 0]])
    numbers = np.argsort(np.argsort(inputs))
    return numbers[: len(made.train_inputs)], numbers[len(made.train_inputs) :]


def as_file(header, rows):
    return built("\n".join([",".join(header), *(",".join(map(str, row)) for row in rows)]), missing="fill")


def as_frame(header, rows):
    frame = pytest.importorskip("pandas", reason="pandas is not installed").DataFrame(rows, columns=header)
    return given_dataset(frame, name="frame")


def as_table(header, rows):
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = arrow.table({name: list(cells) for name, cells in zip(header, zip(*rows, strict=True), strict=True)})
    sentences = Sentences("table")
    return dataset_of(handed_of_tables({"train": (table, {})}, HandedTableOptions(), sentences),
                      HandedTableOptions(), sentences, 0)  # fmt: skip


@pytest.mark.parametrize(
    ("form", "is_gappy"), [(as_file, False), (as_file, True), (as_frame, False), (as_table, False)]
)
def test_nothing_is_learned_from_lines_that_are_held_out(form, is_gappy, folder):
    """Whatever stands in their cells, the others read the same: fillings, scales, categories and places."""
    header = ["number", "value", "city", "label"]
    rows = [[number, number % 7, "Oslo" if number % 3 else "Bonn", number % 2] for number in range(40)]
    _, held = lines_of(form(header, rows))
    if is_gappy:
        for number in (*range(1, 40, 5), *held[:2]):
            rows[number][1] = ""
    other = [[number, 1000 + number, "Rome", row[3]] if number in held else row for number, row in enumerate(rows)]
    ours, theirs = form(header, rows), form(header, other)
    np.testing.assert_array_equal(ours.train_inputs, theirs.train_inputs)
    assert not theirs.test_inputs[:, 2:].any()
    told = f"{len(held)} test samples have a city that no training sample has"
    assert any(told in each for each in theirs.left_out)


def test_a_missing_cell_takes_the_mean_of_lines_that_are_trained(folder):
    rows = [f"{number},{'' if number % 5 == 0 else number**2},{number % 2}" for number in range(40)]
    made = built("\n".join(["number,value,label", *rows]), missing="fill")
    train, _ = lines_of(made)
    values = np.array([np.nan if number % 5 == 0 else number**2 for number in train])
    values[np.isnan(values)] = np.nanmean(values)
    np.testing.assert_allclose(made.train_inputs[:, 1], (values - values.mean()) / values.std(), rtol=1e-5, atol=1e-6)

"""`huggingface` and datasets of the library: which column is what, and the same data as arrays however they are kept."""

import io
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image
from test_data_given import CLASSES, IMAGES, ROWS, TOKENS, content

from neulite_sim.data import huggingface
from neulite_sim.data.conformance import check_dataset
from neulite_sim.data.given import given_dataset
from neulite_sim.errors import DataNotFoundError, NeuliteError, ScenarioError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

NAMES = ["a", "b", "c", "d"]


def built(path, **options):
    return huggingface.build(huggingface.HuggingFaceOptions(path=str(path), **options), 0)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def pictures(images, labels):
    """Return a table as the library writes it: encoded pictures, and what the columns are in the metadata."""
    features = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    made = pa.table({"image": [png(each.transpose(1, 2, 0)) for each in images], "label": labels})
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def save_to_disk(folder, splits):
    """Write tables as `DatasetDict.save_to_disk` does, each in two files."""
    for name, table in splits.items():
        place = folder / name
        place.mkdir(parents=True)
        half = table.num_rows // 2
        files = []
        for number, part in enumerate((table.slice(0, half), table.slice(half))):
            files.append({"filename": f"data-{number:05}-of-00002.arrow"})
            with (
                pa.OSFile(str(place / files[-1]["filename"]), "wb") as sink,
                pa.ipc.new_stream(sink, table.schema) as out,
            ):
                out.write_table(part)
        (place / "state.json").write_text(json.dumps({"_data_files": files, "_split": name}))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def test_saved_folders_and_parquet_files_make_what_the_arrays_make(tmp_path):
    train, test = pictures(IMAGES[:30], CLASSES[:30]), pictures(IMAGES[30:], CLASSES[30:])
    saved = save_to_disk(tmp_path / "saved", {"train": train, "test": test})
    folder = tmp_path / "parquet"
    folder.mkdir()
    pq.write_table(train.slice(0, 13), folder / "train-00000-of-00002.parquet")
    pq.write_table(train.slice(13), folder / "train-00001-of-00002.parquet")
    pq.write_table(test, folder / "test-00000-of-00001.parquet")
    pq.write_table(train, tmp_path / "one.parquet")
    with pa.OSFile(str(tmp_path / "test.arrow"), "wb") as sink, pa.ipc.new_file(sink, test.schema) as out:
        out.write_table(test)
    arrays = given_dataset((IMAGES[:30], CLASSES[:30], IMAGES[30:], CLASSES[30:]), name="huggingface")
    files = {"test_path": str(tmp_path / "test.arrow")}
    for made in (built(saved), built(folder), built(tmp_path / "one.parquet", **files)):
        check_dataset(made)
        assert content(made) == content(arrays)


def test_the_only_split_of_a_folder_is_trained_and_a_share_held_out(tmp_path):
    saved = save_to_disk(tmp_path / "saved", {"train": pictures(IMAGES, CLASSES)})
    both = built(saved), built(saved / "train", train_samples=20)
    assert content(both[0]) == content(given_dataset((IMAGES, CLASSES), name="huggingface"))
    assert len(both[1].train_labels) == 20


def test_tokens_rows_and_tables_are_found_by_their_types(tmp_path):
    rows, words = [list(each) for each in ROWS], [list(map(int, each)) for each in TOKENS]
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": rows, "label": CLASSES}), file)
    assert content(built(file)) == content(given_dataset((ROWS, CLASSES), name="huggingface"))
    masks = [[1] * 7] * 40
    pq.write_table(pa.table({"attention_mask": masks, "input_ids": words, "labels": CLASSES}), file)
    made = built(file, vocabulary=40)
    assert made.spec.vocabulary == 40
    assert made.left_out[0] == "huggingface: columns not read: attention_mask"
    who = pa.array(["u", "v"] * 20).dictionary_encode()
    pq.write_table(pa.table({"a": ROWS[:, 0], "b": ["x", "y"] * 20, "y": CLASSES, "who": who}), file)
    table = built(file, group="who")
    assert table.spec.shape == (3,)
    assert table.groups is not None
    assert built(file, input="a").spec.shape == (1,)


def test_a_validation_split_is_tested_on_where_there_is_no_other(tmp_path):
    parts = {
        "train": pictures(IMAGES, CLASSES),
        "validation": pictures(IMAGES, CLASSES),
        "extra": pictures(IMAGES, CLASSES),
    }
    said = built(save_to_disk(tmp_path, parts)).left_out
    assert said[:2] == (
        "huggingface: there is no split test; validation is tested on",
        "huggingface: splits not read: extra",
    )


def test_grey_pictures_among_colours_are_read_as_colours(tmp_path):
    mixed = [png(IMAGES[0, 0]), *(png(each.transpose(1, 2, 0)) for each in IMAGES[1:])]
    pq.write_table(pa.table({"image": mixed, "label": CLASSES}), tmp_path / "a.parquet")
    made = built(tmp_path / "a.parquet")
    assert made.spec.shape == (3, 8, 6)
    assert "grey pictures of column 'image' are read as colours" in made.left_out[0]


def test_pictures_in_files_elsewhere_are_read_and_said_to_be(tmp_path):
    for number, image in enumerate(IMAGES):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{number}.png")
    held = [{"bytes": None, "path": str(tmp_path / f"{number}.png")} for number in range(40)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table({"image": pa.array(held, kind), "label": CLASSES}), tmp_path / "a.parquet")
    made = built(tmp_path / "a.parquet")
    assert made.left_out[0].startswith("huggingface: 40 pictures of column 'image' lie in files elsewhere, of which no")


TABLES = {
    "data.label: huggingface: several columns may hold the class; say which one with label: NAME, of label, y": (
        {"x": ROWS[:, 0], "label": CLASSES, "y": CLASSES}, {}),
    "data.label: huggingface: no column is known to hold the class; say which one with label: NAME, of x, z": (
        {"x": ROWS[:, 0], "z": CLASSES}, {}),
    "data.label: huggingface: there is no column 'lable'; did you mean 'label'?": (
        {"x": ROWS[:, 0], "label": CLASSES}, {"label": "lable"}),
    "data.group: huggingface: there is no column 'who'; its columns are x, label": (
        {"x": ROWS[:, 0], "label": CLASSES}, {"group": "who"}),
    "data.input: huggingface: there is no column 'z'": ({"x": ROWS[:, 0], "label": CLASSES}, {"input": "z"}),
    "data.input: huggingface: several columns may hold the inputs; say which one with input: NAME, of p, q": (
        {"p": [[1]] * 40, "q": [[2]] * 40, "label": CLASSES}, {}),
    "data.input: huggingface: beside the label there are only texts (text); make numbers of them first": (
        {"text": ["good day"] * 40, "label": CLASSES}, {}),
    "data.input: huggingface: beside the label there are no inputs": ({"label": CLASSES}, {}),
    "data.input: huggingface: column 'd' holds none of these; use one of pictures, numbers": (
        {"d": [b"1"] * 40, "label": CLASSES}, {"input": "d"}),
    "column 'x' has lists of different lengths: 2 first, 3 in train sample 7; pad or cut them": (
        {"x": [[1, 2]] * 7 + [[1, 2, 3]] * 33, "label": CLASSES}, {}),
    "column 'x' has a gap in train sample 5": ({"x": [[1, 2]] * 5 + [[1, None]] * 35, "label": CLASSES}, {}),
    "column 'x' has no value in train sample 3; fill it in": (
        {"x": [1.0, 2.0, 3.0, None] * 10, "label": CLASSES}, {}),
    "column 'image' of train sample 0 cannot be read as a picture (": (
        {"image": [{"bytes": b"no", "path": None}] * 40, "label": CLASSES}, {}),
    "data.image_size: huggingface: pictures of column 'image' differ in size: train sample 0 is 6x8, 1 is 4x8": (
        {"image": [png(IMAGES[0, 0]), png(IMAGES[0, 0, :, :4])] * 20, "label": CLASSES}, {}),
}  # fmt: skip


@pytest.mark.parametrize("words", TABLES)
def test_what_is_wrong_with_columns_is_named(words, tmp_path):
    columns, options = TABLES[words]
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ScenarioError) as wrong:
        built(tmp_path / "a.parquet", **options)
    assert words in str(wrong.value)


def test_what_is_wrong_with_files_is_named(tmp_path):
    one = pa.table({"x": [1.0, 2.0], "label": [0, 1]})
    pq.write_table(one, tmp_path / "one.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    (tmp_path / "text.arrow").write_text("hello")
    (tmp_path / "empty").mkdir()
    bad = save_to_disk(tmp_path / "bad", {"train": one})
    (bad / "train" / "state.json").write_text('{"_data_files": [{"filename": "../one.parquet"}]}')
    chosen = save_to_disk(tmp_path / "chosen", {"train": one})
    (chosen / "train" / "state.json").write_text(
        '{"_data_files": [], "_indices_data_files": [{"filename": "i.arrow"}]}'
    )
    nothing = save_to_disk(tmp_path / "nothing", {"train": one})
    (nothing / "dataset_dict.json").write_text('{"splits": ["../train"]}')
    listed = save_to_disk(tmp_path / "listed", {"train": one})
    (listed / "dataset_dict.json").write_text("[]")
    save_to_disk(tmp_path / "several", {"a": one, "b": one})
    save_to_disk(tmp_path / "tested", {"train": one, "test": one})
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    pq.write_table(one, mixed / "train-00000-of-00002.parquet")
    pq.write_table(pa.table({"z": [1]}), mixed / "train-00001-of-00002.parquet")
    test = {"test_path": str(tmp_path / "one.parquet")}
    for words, path, options in (
        ("there is no file", "none.parquet", {}),
        ("none is not there", "none", {}),
        ("text.parquet cannot be read (", "text.parquet", {}),
        ("text.arrow cannot be read (", "text.arrow", {}),
        ("empty holds no dataset; data.path names a folder made by save_to_disk", "empty", {}),
        ("state.json cannot be read (it names no files)", "bad", {}),
        ("chosen/train cannot be read (its samples are chosen by a table of indices)", "chosen", {}),
        ("dataset_dict.json cannot be read (it names no splits)", "nothing", {}),
        ("dataset_dict.json cannot be read (it holds no object)", "listed", {}),
        ("train-00001-of-00002.parquet cannot be read (its columns are not those of train-00000", "mixed", {}),
        ("no split is called train: a, b; call one train", "several", {}),
        ("several has no split train: a, b; name one .parquet file", "several", test),
        ("tested has a test part; remove data.test_path", "tested", test),
        ("text.csv is no .parquet or .arrow file", "text.csv", {}),
    ):
        (tmp_path / "text.csv").write_text("a")
        with pytest.raises((DataNotFoundError, ScenarioError)) as wrong:
            built(tmp_path / path, **options)
        assert words in str(wrong.value)


def test_the_test_part_needs_the_columns_that_are_read(tmp_path):
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "label": [0, 1, 0]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"z": [1.0], "label": [0]}), tmp_path / "test.parquet")
    with pytest.raises(ScenarioError, match="the test part has no column 'x'; it has z, label"):
        built(tmp_path)


def test_without_pyarrow_the_line_that_installs_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(
        NeuliteError,
        match=re.escape(
            "needs pyarrow, which is not installed; install it: python -m pip install 'neulite-sim[huggingface]'"
        ),
    ):
        built(tmp_path)


# ---- the library itself, where it is installed -----------------------------------------------------------------------


@pytest.fixture
def datasets(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("datasets", reason="the library datasets is not installed")


def test_datasets_of_the_library_make_what_the_arrays_make(datasets, tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})

    def made(images, labels):
        return datasets.Dataset.from_dict(
            {"image": [png(each.transpose(1, 2, 0)) for each in images], "label": labels}, features
        )

    train, test = made(IMAGES[:30], CLASSES[:30]), made(IMAGES[30:], CLASSES[30:])
    both = datasets.DatasetDict(train=train, test=test)
    arrays = content(given_dataset((IMAGES[:30], CLASSES[:30], IMAGES[30:], CLASSES[30:]), name="mine"))
    for value in (both, (train, test), {"train": train, "test": test}, both.with_format("torch")):
        assert content(given_dataset(value, name="mine")) == arrays
    both.save_to_disk(str(tmp_path / "saved"))
    train.to_parquet(tmp_path / "train.parquet")
    test.to_parquet(tmp_path / "test.parquet")
    assert content(built(tmp_path / "saved")) == arrays
    assert content(built(tmp_path / "train.parquet", test_path=str(tmp_path / "test.parquet"))) == arrays
    turned = train.select(range(29, -1, -1)).select(range(29, -1, -1))
    assert content(given_dataset((turned, test), name="mine")) == arrays


def test_transforms_of_the_library_are_read_item_by_item(datasets):
    rows = datasets.Dataset.from_dict({"x": ROWS.tolist(), "label": CLASSES.tolist()})
    doubled = rows.with_transform(
        lambda batch: {"x": [np.array(each) * 2 for each in batch["x"]], "label": batch["label"]}
    )
    assert content(given_dataset(doubled, name="mine")) == content(given_dataset((ROWS * 2, CLASSES), name="mine"))


def test_a_stream_of_the_library_is_refused(datasets):
    stream = datasets.Dataset.from_dict({"x": [1], "label": [0]}).to_iterable_dataset()
    with pytest.raises(ScenarioError, match="a IterableDataset is a stream; load it without streaming=True"):
        given_dataset(stream, name="mine")


def test_pictures_without_end_and_parts_without_a_sample_are_refused(tmp_path, monkeypatch):
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    train = pa.table({"image": pa.array([png(IMAGES[0, 0])] * 4, kind), "label": [0, 1, 0, 1]})
    pq.write_table(train, tmp_path / "train.parquet")
    pq.write_table(train.slice(0, 0), tmp_path / "test.parquet")
    with pytest.raises(ScenarioError, match="column 'image' of the test part is empty; give at least one sample"):
        built(tmp_path)
    monkeypatch.setattr("neulite_sim.data.columns.MOST_PIXELS", 40)
    with pytest.raises(ScenarioError, match=r"cannot be read as a picture \(it has 6x8 pixels; at most 40 are read\)"):
        built(tmp_path / "train.parquet")

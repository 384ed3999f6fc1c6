"""`array`: npz files, folders and single npy files make what the same arrays make when given from Python."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from test_data_given import CLASSES, IMAGES, ROWS, TOKENS, content

from neulite_sim.data import array
from neulite_sim.data.conformance import check_dataset
from neulite_sim.data.given import given_dataset
from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.registry import Choice
from neulite_sim.scenario.inputs import found_from, input_records


def built(**options):
    return array.build(
        array.ArrayOptions(
            **{name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        ),
        0,
    )


def parts(inputs):
    return {"x_train": inputs[:30], "y_train": CLASSES[:30], "x_test": inputs[30:], "y_test": CLASSES[30:]}


def saved(folder, arrays):
    for name, each in arrays.items():
        np.save(folder / f"{name}.npy", each)
    return folder


@pytest.mark.parametrize(("inputs", "options"), [(IMAGES, {}), (ROWS, {}), (TOKENS, {"inputs": "tokens"})])
@pytest.mark.parametrize("packed", [np.savez, np.savez_compressed])
def test_files_make_what_the_arrays_make(inputs, options, packed, tmp_path):
    arrays = parts(inputs)
    first = given_dataset(arrays, name="array", options=options)
    packed(tmp_path / "all.npz", **arrays)
    folder = tmp_path / "folder"
    folder.mkdir()
    saved(folder, arrays)
    paths = {"labels_path": "y_train", "test_path": "x_test", "test_labels_path": "y_test"}
    single = {"path": folder / "x_train.npy", **{option: folder / f"{name}.npy" for option, name in paths.items()}}
    for files in ({"path": tmp_path / "all.npz"}, {"path": folder}, single):
        made = built(**files, **options)
        check_dataset(made)
        assert content(made) == content(first)


def test_what_a_map_of_a_file_gives_does_not_change_with_the_file(tmp_path):
    saved(tmp_path, parts(IMAGES))
    made = built(path=tmp_path)
    before = content(made)
    mapped = np.load(tmp_path / "x_train.npy", mmap_mode="r+")
    mapped[:] = 0
    mapped.flush()
    assert content(made) == before


def test_names_that_say_nothing_are_named_by_options(tmp_path):
    np.savez(tmp_path / "a.npz", a=ROWS, b=CLASSES, c=CLASSES % 3, val_x=ROWS)
    made = built(path=tmp_path / "a.npz", train_inputs="a", train_labels="b", groups="c")
    assert made.groups is not None
    assert made.left_out[0] == "array: not read: val_x"
    with pytest.raises(
        ScenarioError,
        match=re.escape("data.train_labels: array: there is no array 'bb'; did you mean 'b'?; there are a, b"),
    ):
        built(path=tmp_path / "a.npz", train_inputs="a", train_labels="bb")


def test_a_subset_and_a_side_act(tmp_path):
    saved(tmp_path, parts(IMAGES))
    made = built(path=tmp_path, train_samples=9, test_samples=4, image_size=5)
    assert made.train_images.shape == (9, 3, 5, 5)
    assert len(made.test_labels) == 4


def test_all_that_is_read_is_recorded(tmp_path):
    np.savez(tmp_path / "a.npz", **parts(ROWS))
    folder = tmp_path / "folder"
    folder.mkdir()
    saved(folder, parts(ROWS))
    for path in (tmp_path / "a.npz", folder):
        (record,) = input_records(Choice("array", array.ArrayOptions(path=str(path)))).values()
        assert "missing" not in record
        assert ("parts" in record) == path.is_dir()


def test_a_path_may_be_a_file_or_a_folder_beside_the_scenario(tmp_path):
    saved(tmp_path, parts(ROWS))
    for name in ("x_train.npy", "."):
        chosen = found_from(Choice("array", array.ArrayOptions(path=name)), lambda _keys: [str(tmp_path)])
        assert chosen.options.path == f"{tmp_path}/{name}"
    nowhere = Choice("array", array.ArrayOptions(path="none.npz"))
    assert found_from(nowhere, lambda _keys: [str(tmp_path)]).options.path == "none.npz"


def misfits(folder):
    """Write what is wrong, and yield the words of its refusal and the options that name it."""
    (folder / "text.npy").write_text("hello")
    (folder / "text.npz").write_text("hello")
    np.save(folder / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    np.savez(folder / "objects.npz", x=np.array([{}]), y=[1])
    np.savez(folder / "lone.npz", x_train=ROWS)
    np.savez(folder / "cut.npz", x=ROWS, y=CLASSES)
    content = (folder / "cut.npz").read_bytes()
    (folder / "cut.npz").write_bytes(content[: len(content) // 2])
    np.save(folder / "x.npy", ROWS)
    np.save(folder / "y.npy", CLASSES)
    (folder / "short.npy").write_bytes((folder / "x.npy").read_bytes()[:-8])
    with zipfile.ZipFile(folder / "boast.npz", "w") as packed:
        header = (folder / "x.npy").read_bytes().replace(b"(40, 5)", b"(4000000000, 500)"[:7])
        packed.writestr("x.npy", header.replace(b"'shape': (400000", b"'shape': (99999,"))
        packed.writestr("y.npy", (folder / "y.npy").read_bytes().replace(b"(40,)", b"(9**9)"))
    (folder / "empty").mkdir()
    return {
        "there is no file": {"path": folder / "none.npz"},
        "text.npz cannot be read (File is not a zip file)": {"path": folder / "text.npz"},
        "text.npy cannot be read (": {"path": folder / "text.npy", "labels_path": folder / "y.npy"},
        "objects.npy holds pickled objects, which are not read; save arrays": {
            "path": folder / "objects.npy", "labels_path": folder / "y.npy"},
        "objects.npz holds pickled objects, which are not read": {"path": folder / "objects.npz"},
        "cut.npz cannot be read (File is not a zip file)": {"path": folder / "cut.npz"},
        "short.npy cannot be read (": {"path": folder / "short.npy", "labels_path": folder / "y.npy"},
        "boast.npz cannot be read (": {"path": folder / "boast.npz"},
        "empty holds no .npy file; data.path names an .npz file, a folder": {"path": folder / "empty"},
        "no name among the arrays says train_labels": {"path": folder / "lone.npz"},
        "data.labels_path: is missing; name the .npy file": {"path": folder / "x.npy"},
        "data.test_labels_path: is missing; name both files": {
            "path": folder / "x.npy", "labels_path": folder / "y.npy", "test_path": folder / "x.npy"},
        "data.train_inputs: acts only where path holds several arrays; remove it": {
            "path": folder / "x.npy", "labels_path": folder / "y.npy", "train_inputs": "x"},
        "data.test_path: acts only where path is one .npy file; remove it": {
            "path": folder / "lone.npz", "test_path": folder / "x.npy"},
    }  # fmt: skip


def test_what_is_wrong_with_files_is_named(tmp_path):
    for words, options in misfits(tmp_path).items():
        with pytest.raises((DataNotFoundError, ScenarioError)) as wrong:
            built(**options)
        assert words in str(wrong.value)

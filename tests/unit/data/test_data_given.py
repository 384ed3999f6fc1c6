"""Data given from Python: the same arrays make the same dataset however they come, and what is wrong is named."""

import io
import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from neulite_sim.data import reading_datasets
from neulite_sim.data.conformance import check_dataset
from neulite_sim.data.contract import Dataset
from neulite_sim.data.given import given_dataset
from neulite_sim.data.numbers import Numbers
from neulite_sim.errors import ScenarioError
from neulite_sim.registry import component
from neulite_sim.seeding import stream

RNG = stream(0, "tests")
IMAGES = RNG.integers(0, 256, (40, 3, 8, 6), dtype=np.uint8)
CLASSES = np.arange(40) % 4
ROWS = RNG.normal(3, 2, (40, 5))
TOKENS = RNG.integers(0, 30, (40, 7))


def content(dataset):
    """Return all that a dataset is, notices aside, so that equal bytes mean equal datasets."""
    arrays = [getattr(dataset, f"{part}_{what}") for part in ("train", "test") for what in ("inputs", "labels")]
    scale = (dataset.mean, dataset.std, dataset.pixel_scale) if isinstance(dataset, Dataset) else ()
    owners = None if dataset.groups is None else dataset.groups.tobytes()
    return [(each.dtype, each.shape, each.tobytes()) for each in arrays], dataset.spec, scale, owners


def handings(x, y, test_x, test_y):
    """Yield every way in which the same arrays can be handed over from Python."""
    four = (x, y, test_x, test_y)
    tensors = [torch.from_numpy(np.ascontiguousarray(each)) for each in four]
    yield "four arrays", four
    yield "two pairs", ((x, y), (test_x, test_y))
    yield "parts by name", {"train": (x, y), "test": (test_x, test_y)}
    yield "keras", {"x_train": x, "y_train": y, "x_test": test_x, "y_test": test_y}
    yield "words", {"test_labels": test_y, "train_images": x, "train_labels": y, "test_images": test_x}
    yield "tensors", tensors
    yield "lists", [each.tolist() for each in four]
    yield "datasets", (TensorDataset(*tensors[:2]), TensorDataset(*tensors[2:]))
    yield "datasets by name", {"train": TensorDataset(*tensors[:2]), "test": TensorDataset(*tensors[2:])}
    yield "a function", lambda: four
    yield "fortran order", tuple(np.asfortranarray(each) for each in four)
    yield (
        "wider numbers",
        tuple(each.astype(np.float64) if each.dtype.kind == "f" else each.astype(np.int64) for each in four),
    )


@pytest.mark.parametrize(("inputs", "options"), [(IMAGES, {}), (ROWS, {}), (TOKENS, {"inputs": "tokens"})])
def test_the_same_arrays_make_the_same_dataset_however_they_come(inputs, options):
    parts = (inputs[:30], CLASSES[:30], inputs[30:], CLASSES[30:])
    first = given_dataset(parts, name="mine", options=options)
    check_dataset(first)
    for way, value in handings(*parts):
        assert content(given_dataset(value, name="mine", options=options)) == content(first), way


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(6, 20),
    channels=st.sampled_from([1, 3, 4]),
    sides=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    dtype=st.sampled_from([np.uint8, np.float32, np.float64, np.int16]),
)
def test_channels_last_or_first_and_any_strides_give_the_same_images(seed, count, channels, sides, dtype):
    rng = stream(seed, "tests")
    x = rng.integers(0, 256, (count, channels, *sides)).astype(dtype)
    y = np.arange(count) % 2
    last = np.ascontiguousarray(np.moveaxis(x, 1, 3))
    first = given_dataset((x, y, x, y), name="mine")
    check_dataset(first)
    for other, tensor in ((last, torch.from_numpy(last)), (np.asfortranarray(x), torch.from_numpy(x).contiguous())):
        assert content(given_dataset((other, y, other, y), name="mine")) == content(first)
        assert content(
            given_dataset((tensor, torch.from_numpy(y), tensor, torch.from_numpy(y)), name="mine")
        ) == content(first)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 6), form=st.sampled_from(["text", "one-hot", "float", "odd"])
)
def test_labels_of_any_form_are_the_same_classes(seed, classes, form):
    rng = stream(seed, "tests")
    y = rng.permutation(np.concatenate([np.arange(classes), rng.integers(0, classes, 14)]))
    x = rng.normal(size=(len(y), 3))
    labels = {
        "text": np.array([f"class {each}" for each in y]),
        "one-hot": np.eye(classes, dtype=np.float32)[y],
        "float": y.astype(np.float64),
        "odd": 10 * y + 7,
    }[form]
    plain, formed = (given_dataset((x, each), name="mine") for each in (y, labels))
    assert content(plain) == content(formed)


def test_a_held_out_part_is_a_share_of_each_class_and_the_same_for_every_seed():
    x, y = ROWS.repeat(5, axis=0), np.repeat(np.arange(4), 50)
    made = [given_dataset((x, y), name="mine", seed=seed) for seed in (0, 9)]
    assert content(made[0]) == content(made[1])
    assert np.bincount(made[0].test_labels).tolist() == [10] * 4
    assert "40 of 200 samples are held out for it, the same in every run" in made[0].left_out[-1]
    half = given_dataset((x, y), name="mine", options={"test_share": 0.5})
    assert len(half.test_labels) == 100


def test_the_only_sample_of_a_class_is_trained_and_not_held_out():
    y = np.array([0] * 10 + [1] * 9 + [2])
    for seed in range(5):
        made = given_dataset((stream(seed, "tests").normal(size=(20, 2)), y), name="mine")
        assert 2 in made.train_labels


def test_numbers_are_standardised_by_the_training_part_and_may_stay():
    made = given_dataset((ROWS, CLASSES, ROWS[:4] + 100, CLASSES[:4]), name="mine")
    assert isinstance(made, Numbers)
    np.testing.assert_allclose(made.train_inputs.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(made.train_inputs.std(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(made.test_inputs[0] - made.train_inputs[0], 100 / ROWS.std(axis=0), rtol=1e-5)
    plain = given_dataset((ROWS, CLASSES, ROWS, CLASSES), name="mine", options={"normalise": False})
    np.testing.assert_array_equal(plain.train_inputs, ROWS.astype(np.float32))


def test_numbers_far_from_zero_keep_their_differences():
    far = 1.7e9 + np.arange(40.0)[:, None] * [1, 0.5] + [0, 3]
    made = given_dataset((far, CLASSES), name="mine", options={"test_share": 0.1})
    assert len(np.unique(made.train_inputs[:, 0])) == 36


def test_a_column_that_never_changes_becomes_zero():
    constant = np.concatenate([ROWS, np.full((40, 1), 0.1)], axis=1)
    made = given_dataset((constant, CLASSES), name="mine")
    np.testing.assert_allclose(made.train_inputs[:, 5], 0, atol=1e-15)


def test_images_are_seen_standardised_or_as_they_are():
    made = given_dataset((IMAGES, CLASSES, IMAGES, CLASSES), name="mine")
    seen = made.seen(torch.from_numpy(made.train_images))
    torch.testing.assert_close(seen.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    plain = given_dataset((IMAGES, CLASSES, IMAGES, CLASSES), name="mine", options={"normalise": False})
    torch.testing.assert_close(plain.seen(torch.from_numpy(IMAGES)), torch.from_numpy(IMAGES) / 255)
    floats = given_dataset((IMAGES / np.float32(254), CLASSES), name="mine", options={"normalise": False})
    assert floats.pixel_scale == 1
    assert floats.train_images.dtype == np.float32
    assert floats.mean == (0.0,) * 3


@pytest.mark.parametrize(
    ("options", "sizes", "shape"),
    [
        ({"train_samples": 12, "test_samples": 5}, (12, 5), (3, 8, 6)),
        ({"image_size": 4}, (30, 10), (3, 4, 4)),
        ({"augmentation": "crop-flip"}, (30, 10), (3, 8, 6)),
    ],
)
def test_options_of_images_act(options, sizes, shape):
    made = given_dataset((IMAGES[:30], CLASSES[:30], IMAGES[30:], CLASSES[30:]), name="mine", options=options)
    assert (len(made.train_labels), len(made.test_labels)) == sizes
    assert made.spec.shape == shape
    check_dataset(made)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_divided_by_255_are_kept_as_the_bytes_that_they_were(dtype):
    quotients = torch.from_numpy(IMAGES).to(torch.float32).div(255).numpy() if dtype == np.float32 else IMAGES / 255
    made = given_dataset((quotients, CLASSES, quotients[:4], CLASSES[:4]), name="mine")
    assert content(made) == content(given_dataset((IMAGES, CLASSES, IMAGES[:4], CLASSES[:4]), name="mine"))


def test_grey_images_need_no_channels():
    made = given_dataset((IMAGES[:, 0], CLASSES), name="mine")
    assert made.spec.shape == (1, 8, 6)
    assert made.left_out[-1] == "mine: read as grey images [N, H, W]: 1x8x6"


def test_a_series_of_numbers_is_standardised_by_its_last_dimension():
    series = RNG.normal([5, -3], 2, (40, 6, 2))
    made = given_dataset((series, CLASSES, series, CLASSES), name="mine", options={"inputs": "numbers"})
    np.testing.assert_allclose(made.train_inputs.mean(axis=(0, 1)), 0, atol=1e-6)
    assert made.spec.shape == (6, 2)
    check_dataset(made)


def test_one_number_per_sample_is_a_column():
    assert given_dataset((ROWS[:, 0], CLASSES), name="mine").spec.shape == (1,)


def test_tokens_are_kept_small_and_may_have_a_class_each():
    made = given_dataset((TOKENS, TOKENS % 3), name="mine", options={"vocabulary": 300})
    assert made.spec.vocabulary == 300
    assert made.spec.target_shape == (7,)
    assert made.train_inputs.dtype == np.int16
    check_dataset(made)
    small = given_dataset((TOKENS, CLASSES), name="mine", options={"inputs": "tokens"})
    assert small.train_inputs.dtype == np.uint8
    assert "vocabulary 30, one more than the largest id" in small.left_out[-1]


def test_groups_stand_beside_the_arrays_and_follow_a_subset():
    owners = np.array(["ann", "bob"])[np.arange(40) % 2]
    arrays = {"x_train": ROWS, "y_train": CLASSES, "x_test": ROWS, "y_test": CLASSES, "users": owners}
    made = given_dataset(arrays, name="mine", options={"train_samples": 10})
    assert made.groups.tolist() == [int(each) % 2 for each in np.flatnonzero(np.isin(ROWS[:, 0], _raw(made)))]


def _raw(made):
    return ROWS[:, 0][
        [
            int(np.argmin(np.abs((ROWS[:, 0] - ROWS[:, 0].mean()) / ROWS[:, 0].std() - each)))
            for each in made.train_inputs[:, 0]
        ]
    ]


def test_a_function_is_called_with_its_own_options_and_the_seed():
    def load(count, *, seed, scale=1.0):
        rng = stream(seed, "tests")
        return rng.normal(size=(count, 2)) * scale, np.arange(count) % 2

    made = given_dataset(load, name="mine", options={"count": 20, "test_share": 0.5}, seed=7)
    assert len(made.train_labels) == 10
    assert content(made) != content(given_dataset(load, name="mine", options={"count": 20, "test_share": 0.5}, seed=8))


def test_a_function_may_return_a_complete_dataset():
    digits = component("data", "digits")
    made = given_dataset(lambda: digits.build(digits.options(train_samples=20), 0), name="mine")
    assert made.name == "digits"


class Items:
    """The least that a dataset is: a length, and numbered items."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number]


def pictures(mode="RGB", size=(6, 8)):
    return [(Image.fromarray(image.transpose(1, 2, 0)).convert(mode).resize(size), int(label))
            for image, label in zip(IMAGES, CLASSES, strict=True)]  # fmt: skip


def test_pictures_of_pillow_and_mappings_are_items():
    arrays = given_dataset((IMAGES, CLASSES), name="mine")
    assert content(given_dataset(Items(pictures()), name="mine")) == content(arrays)
    by_name = [{"image": picture, "label": label} for picture, label in pictures()]
    assert content(given_dataset(Items(by_name), name="mine")) == content(arrays)
    assert given_dataset(Items(pictures("L")), name="mine").spec.shape == (1, 8, 6)


def test_pictures_of_several_sizes_are_resampled_where_a_side_is_given():
    mixed = pictures()[:20] + pictures(size=(12, 12))[20:]
    with pytest.raises(ScenarioError, match=re.escape("number 0 is (8, 6, 3), number 20 is (12, 12, 3)")):
        given_dataset(Items(mixed), name="mine")
    assert given_dataset(Items(mixed), name="mine", options={"image_size": 6}).spec.shape == (3, 6, 6)


def test_a_dataset_that_changes_by_itself_is_said_to():
    class Moody(Items):
        def __getitem__(self, number):
            self.calls = getattr(self, "calls", 0) + 1
            return ROWS[number] + self.calls, int(CLASSES[number])

    (said, _) = given_dataset(Moody(list(range(40))), name="mine").left_out
    assert said.startswith("mine: the train dataset gives another sample each time (a random transform?)")


def test_a_long_reading_says_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(reading_datasets, "_SILENT_S", -1.0)
    given_dataset(Items(pictures()[:12]), name="mine")
    assert "reading train samples of mine: 12 of 12\n" in capsys.readouterr().err


class Endless:
    """Numbered items without a number of them."""

    def __getitem__(self, number):
        return ROWS[number % 40], 0


def bad(array, at, value):
    changed = array.astype(object if isinstance(value, str) else np.float64)
    changed[at] = value
    return changed


ONE_HOT = np.eye(4)[CLASSES]
WRONG = {
    # what stands for samples
    "mine: a int is no data; give (train_x, train_y, test_x, test_y), a mapping": 3,
    "mine: a tuple of 3 is no data; give (train_x": (ROWS, CLASSES, ROWS),
    "mine: a generator is no data: it has no length; read it into arrays": (each for each in ()),
    "mine: a Endless is no data: it has no length; read it into": (Items([1]), Endless()),
    "mine: a Endless is no data: it has no length; read it into arrays or": Endless(),
    "mine: a DataLoader is no data; give its .dataset": DataLoader(TensorDataset(torch.zeros(4, 2), torch.zeros(4))),
    "mine: the function returned function, not data": lambda: lambda: 1,
    "mine: the training part is empty (shape (0, 5))": (ROWS[:0], CLASSES[:0]),
    "mine: the train dataset is empty; give at least one sample": Items([]),
    "mine: train item 0 is a tuple of 3; each item must be a pair": Items([(1, 2, 3)]),
    "mine: train item 0 is a int; each item must be a pair": Items([1]),
    "mine: train item 0 has the keys picture, label, and none is plainly the input": Items([{"picture": 1, "label": 2}]),
    "mine: the train part is a list of 40; give inputs and labels of each part": {"train": ROWS.tolist()},
    "mine: no name among the arrays says train_labels; say which array it is with label: NAME, of x": {"x": ROWS},
    "mine: 'x' and 'images' may both be train_inputs; say which one with input: NAME": {"x": ROWS, "images": ROWS, "y": CLASSES},
    "mine: there are test inputs and no test labels": {"x": ROWS, "y": CLASSES, "x_test": ROWS},
    # inputs
    "mine: train sample 7 holds nan at 2; remove it or fill in a number": (bad(ROWS, (7, 2), np.nan), CLASSES),
    "mine: test sample 3 holds inf at 1; remove it": (ROWS, CLASSES, bad(ROWS, (3, 1), np.inf), CLASSES),
    "mine: train sample 5 holds 1e+300 at 0; float32 cannot hold it": (bad(ROWS, (5, 0), 1e300), CLASSES),
    "mine: train inputs is a sparse matrix; give its toarray()": (__import__("scipy.sparse").sparse.eye(4), CLASSES[:4]),
    "mine: train inputs is a tensor of layout torch.sparse_coo; give its to_dense()": (torch.eye(4).to_sparse(), CLASSES[:4]),
    "mine: train inputs is a masked array, 2 of whose values are masked; fill them in": (np.ma.masked_greater(np.arange(10.0), 7), CLASSES[:10]),
    "mine: train inputs are texts; give numbers": (np.full((40, 2), "a"), CLASSES),
    "mine: train inputs are complex128; give numbers": (ROWS.astype(complex), CLASSES),
    "mine: train inputs has 'x' at number 3, and ": (bad(ROWS, (3, 0), "x"), CLASSES),
    "mine: train inputs has samples of different shapes: number 0 is (2,), number 1 is (3,)": ([[1, 2], [1, 2, 3]], [0, 1]),
    "mine: test samples have shape (4,), training samples (5,)": (ROWS, CLASSES, ROWS[:, :4], CLASSES),
    "mine: in images of shape (3, 9, 4) the first or the last side may be channels (1 to 4); set data.channels": (np.zeros((40, 3, 9, 4)), CLASSES),
    "mine: in images of shape (9, 9, 9) neither the first nor the last side may be channels": (np.zeros((40, 9, 9, 9)), CLASSES),
    "mine: samples of shape (8, 5) may be grey images or rows of numbers; set data.inputs": (np.zeros((40, 8, 5)), CLASSES),
    "mine: samples of shape (2, 2, 2, 2) are no images, and nothing says what they are; set data.inputs to numbers": (np.zeros((40, 2, 2, 2, 2)), CLASSES),
    "mine: images have 3 channels and 5000x5 pixels; use 1 to 1024 channels and sides of 1 to 4096": (np.zeros((8, 3, 5000, 5), np.uint8), [0, 1] * 4),
    # labels
    "mine: the train part has 40 inputs and 39 labels; give one label per input": (ROWS, CLASSES[:39]),
    "mine: the training part has one class, 0; a classifier needs two": (ROWS, CLASSES * 0),
    "mine: the label of train sample 3 is 0.5, no class; only classification is simulated": (ROWS, bad(CLASSES, 3, 0.5)),
    "mine: the label of train sample 9 is nan, no class; remove the sample or give its class": (ROWS, bad(CLASSES, 9, np.nan)),
    "mine: the label of train sample 6 is a row of 4 numbers that is not one-hot: [0.5, 0, 1, 0]": (ROWS, bad(ONE_HOT, (6, 0), 0.5)),
    "mine: test sample 2 has class 9, of which there is no training sample; remove it or add training samples": (ROWS, CLASSES, ROWS, bad(CLASSES, 2, 9)),
    "mine: train labels has None at number 4": (ROWS, [*CLASSES[:4].tolist(), None, *CLASSES[5:].tolist()]),
    "mine: train labels has 'a' at number 1": (ROWS, [1, "a", *CLASSES[2:].tolist()]),
    "mine: labels of one part are texts and those of the other numbers": (ROWS, CLASSES.astype(str), ROWS, CLASSES),
    "mine: train labels have shape (40, 2, 2); give one class per sample": (ROWS, np.zeros((40, 2, 2))),
    "mine: train labels have shape (40, 2); give one class per sample": (ROWS, np.full((40, 2), "a")),
    "mine: train labels are datetime64[D]; give whole numbers or texts": (ROWS, np.zeros(40, "datetime64[D]")),
    "mine: train labels is 3, not one entry per sample": (ROWS, 3),
    "mine: of 2 samples, each the only one of its class, none can be held out": (ROWS[:2], [0, 1]),
    "mine: 0.2 of 1 samples leave one of the two parts empty": {"train": (ROWS[:1], ONE_HOT[:1])},
    # groups
    "mine: groups have shape (3,); give one per training sample, (40,)": {"x": ROWS, "y": CLASSES, "groups": [1, 2, 3]},
    "mine: train sample 2 has no group; fill it in": {"x": ROWS, "y": CLASSES, "groups": bad(CLASSES, 2, np.nan)},
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_what_is_wrong_is_named_with_its_place_and_what_to_do(words):
    options = {"test_share": 0.5} if "each the only one" in words else {}
    if "one of the two parts" in words:
        options = {"classes": 4}
    with pytest.raises(ScenarioError, match=re.escape(words)):
        given_dataset(WRONG[words], name="mine", options=options)


MISUSED = {
    "data.channels: mine: acts only on images, and these are numbers; remove it": ({"channels": "last"}, ROWS),
    "data.image_size: mine: acts only on images, and these are numbers": ({"image_size": 8}, ROWS),
    "data.vocabulary: mine: acts only on tokens, and these are images": ({"vocabulary": 8, "inputs": "images"}, IMAGES),
    "data.normalise: mine: acts only on images and numbers, and these are tokens": ({"normalise": False, "vocabulary": 30}, TOKENS),
    "data.test_share: mine: acts only where no test part is given": ({"test_share": 0.3}, ROWS),
    "data.label: mine: acts only where arrays, columns or parts of an item have names; remove it": ({"label": "y"}, ROWS),
    "data.inptus: Extra inputs are not permitted; known: partition": ({"inptus": "images"}, ROWS),
    "data.test_share: Input should be less than 1": ({"test_share": 1.0}, ROWS),
    "mine: samples of shape (5,) are no images; give [N, H, W]": ({"inputs": "images"}, ROWS),
    "mine: samples of shape (3, 8, 6) are read as images by every network; flatten": ({"inputs": "numbers"}, IMAGES),
    "mine: samples of shape (5,) and type float64 are no tokens; give whole numbers": ({"inputs": "tokens"}, ROWS),
    "mine: images of shape (8, 6) have no channels to be last": ({"channels": "last"}, IMAGES[:, 0]),
    "mine: train sample 0 holds the id": ({"vocabulary": 3}, TOKENS + 3),
    "mine: test sample 1 has label 3, and there are 3 classes; use 0 to 2": ({"classes": 3}, ROWS),
    "data.train_samples: 41 is more than the 40 training samples of mine": ({"train_samples": 41}, ROWS),
}  # fmt: skip


@pytest.mark.parametrize("words", MISUSED)
def test_an_option_that_does_not_go_with_the_data_is_refused(words):
    options, inputs = MISUSED[words]
    labels = (np.arange(40) % 3, [0, 3]) if "classes" in options else (CLASSES, CLASSES[:2])
    with pytest.raises(ScenarioError, match=re.escape(words)):
        given_dataset((inputs, labels[0], inputs[:2], labels[1]), name="mine", options=options)


def test_labels_that_are_declared_may_be_missing_from_the_training_part():
    made = given_dataset((ROWS, CLASSES, ROWS, CLASSES + 2), name="mine", options={"classes": 6})
    assert made.spec.num_classes == 6
    for labels, words in ((CLASSES - 1, "train sample 0 has no label (-1), and there are 6 classes"),
                          (CLASSES.astype(str), "train labels are texts; leave out classes")):  # fmt: skip
        with pytest.raises(ScenarioError, match=re.escape(words)):
            given_dataset((ROWS, labels), name="mine", options={"classes": 6})


def test_tokens_and_their_classes_have_one_shape():
    with pytest.raises(ScenarioError, match=re.escape("train labels have shape (40, 6), tokens (40, 7)")):
        given_dataset((TOKENS, TOKENS[:, :6]), name="mine", options={"inputs": "tokens"})


def test_notices_say_what_was_done():
    said = given_dataset((TOKENS, CLASSES > 1, TOKENS[:4], [True] * 4), name="mine").left_out
    assert said == (
        "mine: labels are truth values: false is 0 and true is 1",
        "mine: 1 of 2 classes have no test sample",
        "mine: whole numbers are read as quantities; for ids of tokens set inputs: tokens",
    )
    quantities = given_dataset((ROWS, np.arange(40) * 3, ROWS, np.arange(40) * 3), name="mine").left_out
    assert quantities[0] == "mine: 40 classes for 40 training labels: quantities, not classes?"
    order = given_dataset((ROWS, ROWS[:20], CLASSES, CLASSES[:20]), name="mine").left_out
    assert order[0].startswith("mine: read in the order of scikit-learn's train_test_split")


def test_options_beside_a_complete_dataset_are_refused():
    made = given_dataset((ROWS, CLASSES), name="mine")
    assert given_dataset(made, name="other") is made
    with pytest.raises(
        ScenarioError, match="other: options act on arrays only, and this is a dataset already; remove k"
    ):
        given_dataset(made, name="other", options={"k": 1})


def test_an_item_that_cannot_be_read_is_named():
    class Broken(Items):
        def __getitem__(self, number):
            if number == 2:
                raise OSError("no such scan")
            return ROWS[number], 0

    with pytest.raises(ScenarioError, match=re.escape("train item 2 cannot be read (OSError: no such scan); see that")):
        given_dataset(Broken([0] * 4), name="mine")


def test_bytes_as_labels_and_bfloat16_inputs_are_read():
    made = given_dataset((torch.from_numpy(ROWS).bfloat16(), CLASSES.astype("S1")), name="mine")
    assert made.spec.num_classes == 4
    assert io.BytesIO(made.train_inputs.tobytes()).getbuffer().nbytes == made.train_inputs.nbytes


def test_parts_of_items_and_arrays_may_have_any_names():
    arrays = given_dataset((ROWS, CLASSES), name="mine")
    items = Items(
        [{"scan": row, "illness": int(each), "doctor": f"d{each % 2}"} for row, each in zip(ROWS, CLASSES, strict=True)]
    )
    names = {"input": "scan", "label": "illness"}
    assert content(given_dataset(items, name="mine", options=names))[:3] == content(arrays)[:3]
    grouped = given_dataset(items, name="mine", options={**names, "group": "doctor"})
    assert grouped.groups.tolist() == (grouped.train_labels % 2).tolist()
    named = {"scan": ROWS, "illness": CLASSES, "doctor": CLASSES % 2}
    assert content(given_dataset(named, name="mine", options={**names, "group": "doctor"})) == content(grouped)
    for options, words in (
        (
            {"label": "illness"},
            "train item 0 has the keys scan, illness, doctor, and none is plainly the input; say which",
        ),
        (
            {**names, "group": "user"},
            "train item 0 has the keys scan, illness, doctor, and none is 'user'; say which one",
        ),
    ):
        with pytest.raises(ScenarioError, match=re.escape(words)):
            given_dataset(items, name="mine", options=options)
    pairs = Items([(row, 0) for row in ROWS])
    with pytest.raises(
        ScenarioError, match=re.escape("data.group: mine: train item 0 has no parts with names; remove group")
    ):
        given_dataset(pairs, name="mine", options={"group": "doctor"})


def test_limits_of_classes_and_ids_are_named(monkeypatch):
    monkeypatch.setattr("neulite_sim.data.labelling.MOST_CLASSES", 3)
    with pytest.raises(ScenarioError, match="mine: the labels have 4 classes; use at most 3"):
        given_dataset((ROWS, CLASSES), name="mine")
    far = TOKENS.astype(np.int64) + 2**31
    with pytest.raises(ScenarioError, match=r"mine: the largest id is 21474836[0-9]{2}; use ids below 2147483647"):
        given_dataset((far, CLASSES % 3), name="mine", options={"inputs": "tokens"})


def test_a_table_that_this_machine_does_not_hold_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr("neulite_sim.room.free_memory_bytes", lambda: 10)
    monkeypatch.setattr("neulite_sim.room.ALWAYS_THERE_BYTES", 100)
    with pytest.raises(
        ScenarioError, match=r"data: needs about 800 B for the numbers of mine, 10 B are free; set data\.train"
    ):
        given_dataset((ROWS, CLASSES), name="mine")


class OfTheLibrary:
    """Stands for what the library `datasets` makes."""


OfTheLibrary.__module__ = "datasets.arrow_dataset"


def test_datasets_of_the_library_and_arrays_do_not_mix():
    with pytest.raises(
        ScenarioError, match=re.escape("mine: a tuple of 2 with datasets in it is no data; give (train_x")
    ):
        given_dataset((OfTheLibrary(), (ROWS, CLASSES)), name="mine")


KINDS = ["?", "i1", "u1", "i8", "u8", "f2", "f4", "f8", "c8", "U3", "S2", "M8[D]", "m8[s]"]


def any_array(count, most_dimensions):
    shapes = st.lists(st.integers(0, 5), max_size=most_dimensions).map(lambda sides: (count, *sides))
    return shapes.flatmap(
        lambda shape: st.sampled_from(KINDS).flatmap(lambda kind: of_numpy.arrays(np.dtype(kind), shape))
    )


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.integers(0, 8).flatmap(lambda count: st.tuples(any_array(count, 4), any_array(count, 2))),
    st.sampled_from(
        [
            {},
            {"inputs": "images"},
            {"inputs": "numbers"},
            {"inputs": "tokens"},
            {"channels": "first"},
            {"classes": 3},
            {"vocabulary": 9},
        ]
    ),
    st.booleans(),
)
def test_any_two_arrays_make_a_sound_dataset_or_are_refused(pair, options, is_tested):
    try:
        made = given_dataset((*pair, *pair) if is_tested else pair, name="mine", options=options)
    except ScenarioError as refused:
        assert "mine: " in str(refused)  # noqa: PT017
    else:
        check_dataset(made)

"""Data frames of pandas, and what comes with scikit-learn, given from Python."""

import pickle
import re

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from test_data_given import CLASSES, ROWS, Items, content
from tiny_scenarios import tiny

from neulite_sim.data.conformance import check_dataset
from neulite_sim.data.given import given_dataset
from neulite_sim.engine.assembly import prepare
from neulite_sim.engine.given import with_given
from neulite_sim.errors import ScenarioError

pandas = pytest.importorskip("pandas", reason="pandas is not installed")


def frame(**more):
    return pandas.DataFrame({f"c{place}": ROWS[:, place] for place in range(5)} | {"label": CLASSES} | more)


def test_a_frame_of_numbers_is_what_the_arrays_are():
    arrays = given_dataset((ROWS, CLASSES, ROWS[:9], CLASSES[:9]), name="mine")
    for value in ((frame(), frame()[:9]), {"train": frame(), "test": frame()[:9]}):
        assert content(given_dataset(value, name="mine")) == content(arrays)
    inputs = frame().drop(columns="label")
    assert content(given_dataset((inputs, frame()["label"], inputs[:9], frame()["label"][:9]), name="mine")) == content(
        arrays
    )
    assert content(given_dataset(frame(), name="mine")) == content(given_dataset((ROWS, CLASSES), name="mine"))
    assert content(pickle.loads(pickle.dumps(arrays))) == content(arrays)


@pytest.mark.parametrize("kind", ["object", "category", "string"])
def test_texts_are_categories_and_a_column_may_name_the_owners(kind):
    towns = pandas.Series(["Oslo", "Bonn"] * 20, dtype=kind)
    made = given_dataset(frame(town=towns, who=towns), name="mine", options={"group": "who"})
    check_dataset(made)
    assert made.spec.shape == (7,)
    np.testing.assert_array_equal(made.train_inputs[:, 5], made.groups == 0)


def test_what_is_wrong_with_a_frame_is_named():
    gap = ROWS[:, 0].copy()
    gap[3] = np.nan
    texts = pandas.Series(["a", None] * 20, dtype="string")
    for words, value, options in (
        ("train sample 3 has no gap; fill it in or drop it, as fillna and dropna do", frame(gap=gap), {}),
        ("train sample 1 has no town; fill it in", frame(town=texts), {}),
        ("train sample 1 has no town; fill it in", frame(town=["a", None] * 20), {}),
        (
            "data.label: mine: several columns may hold the class; say which one with label: NAME, of label, y",
            frame(y=CLASSES),
            {},
        ),
        (
            "data.label: mine: no column may hold the class; say which one with label: NAME, of c0, c1",
            frame().rename(columns={"label": "vote"}),
            {},
        ),
        (
            "data.label: mine: there is no column 'lable'; did you mean 'label'?; its columns are c0, c1",
            frame(),
            {"label": "lable"},
        ),
        ("data.group: mine: there is no column 'who'", frame(), {"group": "who"}),
        ("mine: two columns are called 'c0'; give each a name of its own", frame().rename(columns={"c1": "c0"}), {}),
        (
            "mine: each cell of column 'more' holds 2 values; give each a column of its own",
            frame().assign(more=[[1, 2]] * 40),
            {},
        ),
        ("mine: the test part has no column 'c4'; it has c0", (frame(), frame().drop(columns="c4")), {}),
    ):
        with pytest.raises(ScenarioError, match=re.escape(words)):
            given_dataset(value, name="mine", options=options)


def test_what_scikit_learn_loads_is_data():
    iris = load_iris()
    assert content(given_dataset(iris, name="iris")) == content(given_dataset((iris.data, iris.target), name="iris"))
    assert content(given_dataset(load_iris(return_X_y=True), name="iris")) == content(given_dataset(iris, name="iris"))
    with pytest.raises(
        ScenarioError, match="'data' and 'images' may both be train_inputs; say which one with input: NAME"
    ):
        given_dataset(load_digits(), name="digits")
    assert given_dataset(load_digits(), name="digits", options={"input": "images"}).spec.shape == (1, 8, 8)


def test_the_column_of_a_partition_groups_the_data_and_is_not_learned_from():
    plain = tiny()
    scenario = plain.model_copy(update={"population": plain.population.model_copy(update={"devices": 4})})
    owners = [f"who {each % 4}" for each in range(40)]
    own = {"x": ROWS, "y": CLASSES, "who": np.array(owners)}
    items = [{"x": row, "y": int(each), "who": owner} for row, each, owner in zip(ROWS, CLASSES, owners, strict=True)]
    train = pandas.DataFrame({"who": owners}).assign(
        **{f"c{place}": ROWS[:, place] for place in range(5)}, label=CLASSES
    )
    for data in (train, (train, train), own, Items(items), lambda: train):
        parts = prepare(with_given(scenario.dump(), data=data, partition="who"))
        assert parts.dataset.spec.shape == (5,)
        groups = parts.dataset.groups
        assert all(len(np.unique(groups[parts.partition.of(device)])) == 1 for device in range(4))
    with pytest.raises(ScenarioError, match="there is no column 'town'; its columns are who, c0"):
        prepare(with_given(scenario.dump(), data=train, partition="town"))
    with pytest.raises(
        ScenarioError, match="the data was not grouped by a column 'who'; give the data with the option"
    ):
        prepare(with_given(scenario.dump(), data=(ROWS, CLASSES), partition="who"))

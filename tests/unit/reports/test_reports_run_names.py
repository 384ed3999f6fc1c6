"""What runs are called in figures."""

import itertools

import pytest
from stored_runs import write_run

from neulite_sim import registry
from neulite_sim.errors import ScenarioError
from neulite_sim.reports.comparison import lines_of
from neulite_sim.reports.run_names import METHOD_NAMES, method_name, names_of, variant_name


@pytest.fixture
def lines(tmp_path):
    """Return a function that writes a run per list of overrides and returns their lines."""

    studies = itertools.count()

    def written(*of, grouped=False):
        folder = tmp_path / str(next(studies))
        runs = [write_run(folder / f"r-{place}", [(10.0, 0.5)], *each) for place, each in enumerate(of)]
        return lines_of(runs, grouped=grouped)[0]

    return written


def test_every_built_in_method_has_a_name_for_people():
    assert set(METHOD_NAMES) == set(registry.names("method"))


def test_a_method_of_somebody_else_keeps_its_own():
    assert (method_name("neulite"), method_name("mine")) == ("NeuLite", "mine")


@pytest.mark.parametrize(
    ("variant", "name"), [("fedavg, fit auto", "FedAvg, fit auto"), ("slt", "SLT"), ("mine, batch 8", "mine, batch 8")]
)
def test_a_variant_is_called_by_its_method_and_its_way(variant, name):
    assert variant_name(variant) == name


def test_runs_of_different_methods_are_called_by_them(lines):
    assert names_of(lines([], ["method=heterofl", "model=lenet"])) == ["FedAvg", "HeteroFL"]


def test_runs_of_one_method_are_called_by_what_differs(lines):
    found = lines([], ["training.fit=auto"], ["method=heterofl", "model=lenet"])
    assert names_of(found) == ["FedAvg", "FedAvg (fit auto)", "HeteroFL"]
    assert names_of(lines(["training.fit=auto"], ["method=heterofl", "model=lenet"]))[0] == "FedAvg (fit auto)"
    fitted = lines(["training.fit=auto", "name=a"], ["training.fit=auto", "seed=4"])
    assert names_of(fitted) == ["FedAvg (fit auto, seed 3)", "FedAvg (fit auto, seed 4)"]
    seeds = lines(["name=a"], ["name=b", "seed=4", "stop.rounds=9"])
    assert names_of(seeds) == ["FedAvg (seed 3)", "FedAvg (seed 4)"]


def test_what_differs_too_much_or_not_at_all_is_called_by_its_folder(lines):
    assert names_of(lines(["name=a"], ["name=b"])) == ["r-0", "r-1"]
    many = ["training.epochs=2", "training.batch_size=6", "training.momentum=0.5"]
    assert names_of(lines([], many)) == ["r-0", "r-1"]


def test_a_name_is_given_to_a_run_a_group_or_a_method(lines):
    found = lines(["seed=1"], ["seed=2"], ["method=heterofl", "model=lenet"], grouped=True)
    assert names_of(found) == ["FedAvg", "HeteroFL"]
    assert names_of(found, {"r-1": "Ours", "heterofl": "Theirs"}) == ["Ours", "Theirs"]
    with pytest.raises(ScenarioError, match="--label: 'slt' is nothing in this figure; name one of: r-0, r-2"):
        names_of(found, {"slt": "x"})


def test_groups_whose_folders_have_one_name_are_told_apart(tmp_path):
    runs = [write_run(tmp_path / f"a-{seed}", [(10.0, 0.5)], f"seed={seed}", f"stop.rounds={rounds}")
            for seed, rounds in ((1, 4), (2, 4), (3, 5), (4, 5))]  # fmt: skip
    assert [line.name for line in lines_of(runs, grouped=True)[0]] == ["a-1", "a-3"]

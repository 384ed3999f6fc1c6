"""What a user reads about a wrong scenario."""

from __future__ import annotations

from typing import Any

import fake_components
import pytest
import yaml

from neulite_sim.errors import ScenarioError
from neulite_sim.scenario.loading import parse_scenario

pytestmark = pytest.mark.usefixtures("fakes")


def problems_of(*settings: str, **changes: Any) -> dict[str, str]:
    """Return the message by key, for the example with some values replaced or removed (None)."""
    given = yaml.safe_load(fake_components.SCENARIO) | changes
    with pytest.raises(ScenarioError) as caught:
        parse_scenario({key: value for key, value in given.items() if value is not None}, settings)
    return {problem.key: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("setting", "key", "message"),
    [
        ("training.epochs=0", "training.epochs", "must be at least 1, found 0"),
        ("training.epochs=2.5", "training.epochs", "must be a whole number, found 2.5"),
        ("training.epochs=many", "training.epochs", "must be a whole number, found 'many'"),
        ("training.epochs=null", "training.epochs", "must be a whole number, found nothing"),
        ("training.epochs=true", "training.epochs", "must be a number, found true"),
        ("training.epochs=[]", "training.epochs", "must be a whole number, found an empty list"),
        ("training.learning_rate=0", "training.learning_rate", "must be at least 1e-12, found 0"),
        ("training.learning_rate=fast", "training.learning_rate", "must be a number, found 'fast'"),
        ("training.learning_rate=.inf", "training.learning_rate", "must be a finite number, found inf"),
        ("training.momentum=1", "training.momentum", "must be less than 1, found 1"),
        ("population.groups.0.share=1e400", "population.groups.0.share", "must be a finite number, found inf"),
        ("population.groups.0.device=5", "population.groups.0.device", "must be text, found 5 (put it in quotes)"),
        ("population.groups=[]", "population.groups", "must be a list of at least 1, found an empty list"),
        ("population.groups=3", "population.groups", "must be a list, found 3"),
        ("population.devices=false", "population.devices", "must be a number, found false"),
        ("evaluation.targets=[true]", "evaluation.targets.0", "must be a number, found true"),
        ("evaluation.targets=[0.5, 1.5]", "evaluation.targets.1", "must be at most 1, found 1.5"),
        ("evaluation=", "evaluation", "must be a mapping, found nothing (keys: every_rounds, batch_size, batch_norm, recalibration_samples, diagnostics, diagnostic_samples, targets)"),
        ("training=fast", "training", "must be a mapping, found 'fast' (keys: epochs, batch_size, learning_rate, learning_rate_schedule, optimizer, momentum, weight_decay, clip_norm, precision, frozen_weights, micro_batch_size, checkpointing, prefix_cache, fit, norm, shrink_batch)"),
        ("workload.input_shape=[3, 32]", "workload.input_shape",
         "must be a list of at least 3, found a list of 2"),
        ("workload.input_shape=[3, 32, 32, 1]", "workload.input_shape",
         "must be a list of at most 3, found a list of 4"),
        ("workload.input_shape=[3, 0, 32]", "workload.input_shape.1", "must be at least 1, found 0"),
        ("method.curriculum=maybe", "method.curriculum", "must be true or false, found 'maybe'"),
        ("method.schedule=cyclc", "method.schedule",
         "must be 'cyclic' or 'sequential', found 'cyclc'; did you mean 'cyclic'?"),
        ("method.blocks=some", "method.blocks", "must be a whole number or 'all', found 'some'"),
        ("method.weights=3", "method.weights", "must be a list, found 3; write [3]"),
        ("stop.virtual_time=0", "stop.virtual_time", "must be at least 0.001, found 0"),
        ("seed=-1", "seed", "must be at least 0, found -1"),
        ("seed=9223372036854775808", "seed", "must be at most 9223372036854775807, found 9223372036854775808"),
        ("selection=5", "selection", "must be a mapping with a kind, or a bare kind, found 5 (choices: uniform)"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_shown_with_what_is_allowed(setting: str, key: str, message: str) -> None:
    assert problems_of(setting) == {key: message}


@pytest.mark.parametrize(
    ("setting", "key", "message"),
    [
        ("training.batch_sise=3", "training.batch_sise", "unknown key; did you mean 'batch_size' or 'micro_batch_size'? (choices: epochs, b"),
        ("method.curriculm=false", "method.curriculm", "unknown key; did you mean 'curriculum'? (choices: kind, curri"),
        ("data.partition.alpa=1", "data.partition.alpa", "unknown key; did you mean 'alpha'? (choices: kind, alpha)"),
        ("method.ramp={kind: linear, slop: 2}", "method.ramp.slop",
         "unknown key; did you mean 'slope'? (choices: kind, slope)"),
        ("training.optimizer={kind: adam, adam: 1}", "training.optimizer.adam", "unknown key (choices: kind, beta1"),
        ("population.groups.1.devise=x", "population.groups.1.devise", "unknown key; did you mean 'device'?"),
        ("model.depth=3", "model.depth", "unknown key (choices: kind)"),
        ("epochs=5", "epochs",
         "unknown key; did you mean training.epochs or workload.epochs or proxy.epochs? (choices: name, seed"),
        ("curriculum=false", "curriculum", "unknown key; did you mean method.curriculum? (choices: name, seed"),
    ],
)  # fmt: skip
def test_a_misspelt_key_lists_close_matches_and_choices(setting: str, key: str, message: str) -> None:
    found = problems_of(setting)
    assert list(found) == [key]
    assert found[key].startswith(message)


@pytest.mark.parametrize(
    ("setting", "key", "message"),
    [
        ("model.kind=resnet81", "model.kind",
         "'resnet81' is not a known model; did you mean 'resnet18'? (choices: resnet18, torchvision)"),
        ("training.optimizer=adm", "training.optimizer.kind",
         "'adm' is not a known optimizer; did you mean 'adam'? (choices: sgd, adam)"),
        ("training.learning_rate_schedule.final=0", "training.learning_rate_schedule.kind",
         "is missing (choices: constant, step, cosine)"),
        ("workload.model={}", "workload.model.kind", "is missing (choices: resnet18, torchvision)"),
        ("method.kind=3", "method.kind", "must be a name, found 3 (choices: fedavg, neulite)"),
    ],
)  # fmt: skip
def test_a_wrong_kind_lists_the_choices(setting: str, key: str, message: str) -> None:
    assert problems_of(setting) == {key: message}


def test_true_is_taken_where_a_number_or_a_boolean_may_stand() -> None:
    scenario = parse_scenario(yaml.safe_load(fake_components.SCENARIO), ["method.warm_up=true"])
    assert scenario.method.options.warm_up is True


def test_a_missing_key_says_what_it_is_for() -> None:
    assert problems_of(stop={}) == {
        "stop.rounds": "is missing (Number of rounds after which the run ends at the latest)"
    }
    assert problems_of("population.availability=markov") == {
        "population.availability.mean_on": "is missing (Mean time online)",
        "population.availability.mean_off": "is missing (Mean time offline)",
    }


def test_a_list_of_wrong_items_is_not_called_short() -> None:
    assert problems_of("population.groups=[3, {device: x, share: 0}]") == {
        "population.groups.0": "must be a mapping, found 3 (keys: device, share, available_memory, link, individuals)",
        "population.groups.1.share": "must be at least 1e-12, found 0",
    }


def test_a_key_that_is_no_text_is_unknown() -> None:
    given = {**yaml.safe_load(fake_components.SCENARIO), 1: 2}
    with pytest.raises(ScenarioError, match=r"^1: unknown key \(choices: name, seed"):
        parse_scenario(given)


def test_a_bad_quantity_names_the_units() -> None:
    found = problems_of("population.available_memory.low=100 parsecs")["population.available_memory.low"]
    assert found.startswith("'100 parsecs' is not a size; write for example 512MB or 512MiB (units: B, kB")


def test_a_name_that_is_no_folder_says_what_is_allowed() -> None:
    assert problems_of("name=my run") == {
        "name": "'my run' must start with a letter or a digit and hold only letters, digits, '.', '_' and '-'"
    }
    assert problems_of(name="x" * 101)["name"].startswith("must be text of at most 100 characters, found 'xxx")


def test_a_dotted_key_in_a_file_is_explained() -> None:
    found = problems_of(**{"training.momentum": 0.5})["training.momentum"]
    assert found.startswith("unknown key; dots join keys in --set only, in a file write one mapping inside the other")


def test_settings_that_do_not_go_together_are_reported_at_one_of_them() -> None:
    assert problems_of("training.optimizer=adam", "training.momentum=0.9") == {
        "training.momentum": "acts only with optimizer sgd, found 0.9 with adam; remove it, or set optimizer.beta1"
    }


def test_all_problems_are_found_at_once_and_none_speaks_pydantic() -> None:
    found = problems_of(
        "training.epochs=0",
        "training.batch_sise=3",
        "method.schedule=3",
        "population.available_memory.low=-5",
        "data.partition=dirichlett",
        "proxy.width=2",
        stop=None,
    )
    assert len(found) == 7
    assert not any(word in message for message in found.values() for word in ("Input", "Field", "type=", "pydantic"))

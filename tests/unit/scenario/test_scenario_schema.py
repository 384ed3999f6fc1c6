"""The schema of a scenario, as pydantic models and as JSON Schema."""

from __future__ import annotations

import copy
import json
from typing import Any

import fake_components
import jsonschema
import pytest
import yaml
from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema

from neulite_sim import registry
from neulite_sim.docstrings import attribute_docstrings
from neulite_sim.registry import Choice
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import Adam, Evaluation, Scenario, Sgd, Step, Training, scenario_json_schema

pytestmark = pytest.mark.usefixtures("fakes")


def test_the_json_schema_is_what_pydantic_generates_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    found = scenario_json_schema()
    monkeypatch.setattr(registry.JsonSchemas, "encode_default", GenerateJsonSchema.encode_default)
    assert json.dumps(found) == json.dumps(scenario_json_schema())
    assert '"default": null' in json.dumps(found)
    assert '"default": {' in json.dumps(found)


@pytest.fixture
def given() -> dict[str, Any]:
    plain: dict[str, Any] = yaml.safe_load(fake_components.SCENARIO)
    plain["training"]["weight_decay"] = 5e-4
    return plain


@pytest.fixture(scope="module")
def validator(fakes: None) -> jsonschema.Draft202012Validator:
    schema = scenario_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_field_of_the_example_arrives(given: dict[str, Any]) -> None:
    scenario = parse_scenario(given)
    assert (scenario.name, scenario.seed, scenario.population.devices) == ("example", 42, 100)
    assert scenario.population.available_memory.options.low == 100_000_000
    assert scenario.stop.virtual_time == 172_800
    assert scenario.data.options.partition == Choice("dirichlet", fake_components.Dirichlet(alpha=0.5))


def test_what_is_left_out_has_its_default(given: dict[str, Any]) -> None:
    scenario = parse_scenario(given)
    assert scenario.protocol.kind == "synchronous"
    assert scenario.backend.kind == "ray"
    assert scenario.population.availability.kind == "always"
    assert scenario.training.optimizer == Sgd()


def test_optimizer_and_schedule_may_be_bare_kinds() -> None:
    assert Training.model_validate({"optimizer": "adam"}).optimizer == Adam()
    assert Training.model_validate({"learning_rate_schedule": {"kind": "step", "milestones": [5, 9]}}) == Training(
        learning_rate_schedule=Step(milestones=(5, 9))
    )


@pytest.mark.parametrize("optimizer", ["adam", {"kind": "adam"}, Adam()])
def test_adam_has_no_momentum_unless_asked_in_vain(optimizer: object) -> None:
    assert Training.model_validate({"optimizer": optimizer}).momentum == 0
    with pytest.raises(ValidationError, match=r"acts only with optimizer sgd, found 0\.9 with adam"):
        Training.model_validate({"optimizer": optimizer, "momentum": 0.9})


def test_a_dumped_training_with_adam_loads_again() -> None:
    training = Training.model_validate({"optimizer": "adam"})
    assert Training.model_validate(training.model_dump(mode="json")) == training


@pytest.mark.parametrize("milestones", [[3, 3], [9, 5]])
def test_milestones_must_rise(milestones: list[int]) -> None:
    with pytest.raises(ValidationError, match=rf"{milestones[1]} follows {milestones[0]}; write each round once"):
        Step.model_validate({"milestones": milestones})


def test_recalibration_samples_act_only_with_recalibration() -> None:
    assert Evaluation.model_validate({"batch_norm": "recalibrated", "recalibration_samples": 9})
    with pytest.raises(ValidationError, match="acts only with batch_norm recalibrated, found 9 with running"):
        Evaluation.model_validate({"recalibration_samples": 9})


def test_a_scenario_is_frozen(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_scenario(given).seed = 3  # type: ignore[misc]


def test_every_field_says_what_it_means() -> None:
    models = (Scenario, *(info.annotation for info in Scenario.model_fields.values()))
    fields = [(model, name) for model in models for name in getattr(model, "model_fields", {}) if name != "kind"]
    assert [f"{model}.{name}" for model, name in fields if not attribute_docstrings(model).get(name)] == []


def test_json_schema_accepts_the_example(given: dict[str, Any], validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(given)
    validator.validate(parse_scenario(given).dump())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("training", "epoch"), 3),
        (("training", "epochs"), 0),
        (("method", "curriculm"), False),
        (("method", "kind"), "neulit"),
        (("method", "ramp"), {"kind": "linear", "slop": 1}),
        (("data", "partition"), {"kind": "dirichlet", "alpa": 1}),
        (("data", "partition"), {"kind": "dirichlet", "alpha": 0}),
        (("population", "available_memory", "low"), "100mb"),
        (("population", "available_memory"), "uniform"),
        (("model", "kind"), "torchvision"),
        (("name",), "my run"),
    ],
)
def test_json_schema_refuses_what_loading_refuses(
    path: tuple[str, ...], value: object, given: dict[str, Any], validator: jsonschema.Draft202012Validator
) -> None:
    wrong = copy.deepcopy(given)
    inner = wrong
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert not validator.is_valid(wrong)
    with pytest.raises(Exception, match=path[0]):
        parse_scenario(wrong)


def test_json_schema_accepts_bare_kinds_arguments_and_nested_options(
    given: dict[str, Any], validator: jsonschema.Draft202012Validator
) -> None:
    given |= {"model": {"kind": "torchvision:alexnet"}, "selection": "uniform", "workload": {"model": "resnet18"}}
    given["training"]["optimizer"] = "adam"
    given["method"]["ramp"] = "flat"
    validator.validate(given)
    parse_scenario(given)


def test_json_schema_lets_a_file_that_extends_leave_keys_out(
    validator: jsonschema.Draft202012Validator,
) -> None:
    assert validator.is_valid({"extends": "base.yaml", "seed": 3})
    assert not validator.is_valid({"seed": 3})


def test_a_scenario_with_precisions_to_choose_from_loads_as_it_is_written_out() -> None:
    given = Training.model_validate({"fit": {"kind": "auto", "precisions": ["fp32", "bf16"]}})
    assert Training.model_validate(given.model_dump(mode="json")) == given
    with pytest.raises(ValidationError, match=r"is bf16, but fit\.precisions says what to choose from"):
        Training.model_validate({**given.model_dump(mode="json"), "precision": "bf16"})

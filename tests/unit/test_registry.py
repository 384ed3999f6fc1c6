"""Finding components, and fields that hold one."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Annotated, Any, Self

import fake_components
import pytest
from pydantic import Field, ValidationError, model_validator

from neulite_sim import registry
from neulite_sim.errors import UnknownComponentError
from neulite_sim.registry import Choice, ComponentField, Options, refusal, refuse_inert

pytestmark = pytest.mark.usefixtures("fakes")


REAL_ENTRY_POINTS: Any = registry._entry_points


class Holder(Options):
    method: Annotated[Choice, ComponentField("method")] = Field(default="fedavg", validate_default=True)
    memory: Annotated[Choice, ComponentField("available_memory")] | None = None


def locations(error: ValidationError) -> dict[str, str]:
    return {".".join(map(str, found["loc"])): found["msg"] for found in error.errors()}


def test_names_are_sorted_and_nothing_is_loaded_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"neulite": EntryPoint("neulite", "no.such.module:X", "g"), "avg": EntryPoint("avg", "nor.this:X", "g")}
    monkeypatch.setattr(registry, "_entry_points", lambda _: dict(sorted(broken.items())))
    assert registry.names("method") == ("avg", "neulite")


def test_a_component_is_loaded_by_its_name() -> None:
    assert registry.component("method", "neulite") is fake_components.NEULITE


def test_an_unknown_name_lists_close_matches_and_all_choices() -> None:
    expected = r"^'neulit' is not a known method; did you mean 'neulite'\? \(choices: fedavg, neulite\)$"
    with pytest.raises(UnknownComponentError, match=expected):
        registry.component("method", "neulit")


class Inner(Options):
    size: int = 3


class Switched(Options):
    is_on: bool = False
    level: float = 0.5
    inner: Inner = Field({}, validate_default=True)

    @model_validator(mode="after")
    def _every_option_acts(self) -> Self:
        refuse_inert(self, {} if self.is_on else {"level": "is_on true", "inner": "is_on true"})
        return self


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"level": 0.1}, {"level": "acts only with is_on true, found 0.1; remove it"}),
        ({"inner": {"size": 4}}, {"inner": "acts only with is_on true; remove it"}),
    ],
)
def test_an_option_that_another_one_switches_off_is_refused(given: dict[str, Any], expected: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as refused:
        Switched(**given)
    assert locations(refused.value) == expected
    assert Switched(is_on=True, **given).model_dump().items() >= given.items()


def test_an_option_that_is_switched_off_may_stand_at_its_default() -> None:
    assert Switched(level=0.5, inner=Inner(size=3)) == Switched()


def test_an_argument_is_taken_only_where_the_component_takes_one() -> None:
    assert registry.component("model", "torchvision:alexnet") is fake_components.TORCHVISION
    with pytest.raises(UnknownComponentError, match="'torchvision' needs a name after a colon: torchvision:NAME"):
        registry.component("model", "torchvision")
    with pytest.raises(UnknownComponentError, match="'resnet18:x': resnet18 takes nothing after a colon"):
        registry.component("model", "resnet18:x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:X", "method 'mine' cannot be loaded from no_such_module:X: No module named 'no_such_module'"),
        ("fake_components:MISSING", "method 'mine' cannot be loaded from fake_components:MISSING: .*MISSING"),
        ("fake_components:NOT_A_COMPONENT", "method 'mine': fake_components:NOT_A_COMPONENT is a int; its package"),
    ],
)
def test_a_broken_plug_in_says_what_is_wrong_with_it(value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entry_points", lambda group: {"mine": EntryPoint("mine", value, group)})
    with pytest.raises(UnknownComponentError, match=message):
        registry.component("method", "mine")


def test_a_field_takes_a_mapping_a_bare_kind_or_a_choice() -> None:
    mapped = Holder.model_validate({"method": {"kind": "neulite", "curriculum": False}})
    assert mapped.method == Choice("neulite", fake_components.Neulite(curriculum=False))
    assert Holder.model_validate({"method": "neulite"}).method == Choice("neulite", fake_components.Neulite())
    assert Holder.model_validate({"method": mapped.method}) == mapped


def test_a_default_kind_is_validated_like_a_given_one() -> None:
    assert Holder().method == Choice("fedavg", fake_components.Fedavg())
    assert Holder().memory is None


def test_a_choice_dumps_its_kind_and_every_option() -> None:
    dumped = Holder.model_validate({"memory": {"kind": "uniform", "low": "1kB", "high": "2kB"}}).model_dump(mode="json")
    assert dumped["memory"] == {"kind": "uniform", "low": 1000, "high": 2000}
    assert dumped["method"] == {"kind": "fedavg", "memory_limit": True}


def test_problems_of_options_stand_under_their_own_keys() -> None:
    wrong = {"method": {"kind": "neulite", "curriculm": False, "ramp": {"kind": "linear", "slope": "steep"}},
             "memory": {"kind": "uniform", "low": "1 parsec"}}  # fmt: skip
    with pytest.raises(ValidationError) as caught:
        Holder.model_validate(wrong)
    assert set(locations(caught.value)) == {
        "method.curriculm",
        "method.ramp.linear.slope",
        "memory.low",
        "memory.high",
    }


@pytest.mark.parametrize(
    ("value", "key", "message"),
    [
        ({"kind": "neulit"}, "method.kind", "'neulit' is not a known method; did you mean 'neulite'"),
        (
            {"curriculum": True},
            "method.kind",
            "is missing; curriculum is an option of neulite (choices: fedavg, neulite)",
        ),
        ({"kind": 3}, "method.kind", "must be a name, found 3 (choices: fedavg, neulite)"),
        (3, "method", "must be a mapping with a kind, or a bare kind (choices: fedavg, neulite)"),
        (None, "method", "must be a mapping with a kind, or a bare kind (choices: fedavg, neulite)"),
    ],
)
def test_a_wrong_kind_stands_under_its_own_key(value: object, key: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Holder.model_validate({"method": value})
    assert list(locations(caught.value)) == [key]
    assert message in locations(caught.value)[key]


def test_a_refusal_is_reported_at_the_key_it_names() -> None:
    class Refusing(Options):
        low: int = 0

        @model_validator(mode="after")
        def _always(self) -> Self:
            raise refusal(f"is {self.low}, too {{low}}", "low", given=self.low)

    with pytest.raises(ValidationError) as caught:
        Refusing(low=3)
    assert locations(caught.value) == {"low": "is 3, too {low}"}


def test_options_are_frozen_and_refuse_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        fake_components.Neulite().curriculum = False  # type: ignore[misc]
    with pytest.raises(ValidationError, match="curriculm"):
        fake_components.Neulite.model_validate({"curriculm": True})


def test_a_checkout_that_is_not_installed_finds_the_components_of_pyproject(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_installed", lambda: EntryPoints(()))
    uninstalled = REAL_ENTRY_POINTS.__wrapped__
    assert "neulite" in uninstalled("neulite_sim.methods")
    assert (
        uninstalled("neulite_sim.available_memory")["uniform"].value
        == "neulite_sim.population.memory.distributions:UNIFORM"
    )


def test_an_installed_entry_point_wins_over_pyproject(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = EntryPoint("neulite", "elsewhere:COMPONENT", "neulite_sim.methods")
    monkeypatch.setattr(registry, "_installed", lambda: EntryPoints((installed,)))
    assert REAL_ENTRY_POINTS.__wrapped__("neulite_sim.methods")["neulite"] == installed


def test_a_checkout_knows_better_where_its_own_modules_are(monkeypatch: pytest.MonkeyPatch) -> None:
    stale = EntryPoint("neulite", "neulite_sim.where_it_was:COMPONENT", "neulite_sim.methods")
    monkeypatch.setattr(registry, "_installed", lambda: EntryPoints((stale,)))
    found = REAL_ENTRY_POINTS.__wrapped__("neulite_sim.methods")["neulite"]
    assert found.value == "neulite_sim.methods.neulite:COMPONENT"


def test_a_field_that_names_no_component_is_refused_with_those_that_do() -> None:
    with pytest.raises(
        UnknownComponentError, match=r"'data.partition' is not .* did you mean 'partition'\?.*choices: "
    ):
        registry.component("data.partition", "natural")

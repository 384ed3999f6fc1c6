"""The components `python` and `given` of each field of a scenario, and those that a program registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, Field, ValidationError, create_model

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.registry import GIVEN, PYTHON, Component, Options
from neulite_sim.scenario.inputs import InputFile
from neulite_sim.user_code.calls import Found
from neulite_sim.user_code.files import from_file
from neulite_sim.user_code.holding import Given

Adapt = Callable[..., Any]
"""`adapt(found, options, *context)`: makes of a user's value what the field's components build."""


class InFile(Options):
    """Options of `python`: what a Python file holds. A scenario with it runs that file's code."""

    path: InputFile
    """The Python file, beside the scenario or in the current folder."""
    name: str = Field(min_length=1, max_length=200)
    """What is used of it: a function, a class, an object, or a component as packages register it."""
    options: Mapping[str, Any] = {}
    """What a function or class is called with, by the names of its parameters."""


def python(field: str, summary: str, base: type[Options], adapt: Adapt) -> Component:
    """Return the component of a field that takes what a Python file holds. Its options are those of `base`, too."""

    def build(options: Any, *context: Any) -> Any:
        value = from_file(options.path, options.name, key=field)
        found = Found(value=value, name=options.name, key=field, options=options.options)
        return adapted(found, adapt, options, *context)

    return Component(kind=PYTHON, summary=f"{summary}, in a Python file beside the scenario: runs its code",
                     source="your own file", options=_both("InFile", base, InFile), build=build)  # fmt: skip


def given(field: str, summary: str, base: type[Options], adapt: Adapt) -> Component:
    """Return the component of a field that takes what was given from Python in this process."""

    def build(options: Any, *context: Any) -> Any:
        return adapted(options.found(field), adapt, options, *context)

    return Component(kind=GIVEN, summary=f"{summary}, given from Python in this process",
                     source="your own program", options=_both("Given", base, Given), build=build)  # fmt: skip


def registered(field: str, name: str, value: Any, summary: str, base: type[Options], adapt: Adapt) -> Component:
    """Return a component for a value that a program registers: its parameters are the options.

    A `Component` is taken as it is, under its new name.
    """
    if isinstance(value, Component):
        return value

    def build(options: Any, *context: Any) -> Any:
        found = Found(value=value, name=name, key=field, options=options.model_extra or {})
        return adapted(found, adapt, options, *context)

    class Registered(base):  # type: ignore[misc, valid-type]
        """Options of what a program registered: the parameters of its function or class."""

        model_config = ConfigDict(extra="allow")

    return Component(kind=name, summary=summary, source="your own program", options=Registered, build=build)


def adapted(found: Found, adapt: Adapt, options: Options, *context: Any) -> Any:
    """Return what a field's component builds of a user's value; of a `Component`, what that builds."""
    if not isinstance(found.value, Component):
        return adapt(found, options, *context)
    component: Component = found.value
    try:
        own = component.options.model_validate({**_common(component, options), **found.options})
    except ValidationError as error:
        keys = [".".join(map(str, (found.key, "options", *each["loc"]))) for each in error.errors()]
        texts = [each["msg"] for each in error.errors()]
        raise ScenarioError([Problem(key=key, message=text) for key, text in zip(keys, texts, strict=True)]) from None
    return component.build(own, *context)


def _common(component: Component, options: Options) -> dict[str, Any]:
    """Return the options that stand beside `path` and `name` and that a component of a user's has as well."""
    own = {*InFile.model_fields, *Given.model_fields}
    names = component.options.model_fields.keys() & options.model_fields_set - own
    return {name: getattr(options, name) for name in names}


def _both(name: str, base: type[Options], own: type[Options]) -> type[Options]:
    if base is Options:
        return own
    made: type[Options] = create_model(f"{base.__name__}{name}", __base__=(own, base), __doc__=own.__doc__)
    return made

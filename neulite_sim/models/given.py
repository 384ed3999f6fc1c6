"""Whatever somebody hands over as a model, as an architecture: `given_architecture`.

Taken are

- an `nn.Module`: its weights are the initial weights, whatever the seed of a run; it is copied and never changed;
- a class or function that builds one, called anew for each model, so that initial weights depend on the seed; of
  `input_shape`, `num_classes`, `width` and `spec` it gets those that its parameters name, and `options`. A `width`
  whose default is not 1 is somebody's own and is left alone;
- blocks and a head, `([block, ...], head)` or `{"blocks": ..., "head": ...}`, or a function that returns them;
- a `BlockModel`, or a function that returns one.

A module is cut where one tensor alone passes between its layers (`cutting`, `cut_plan`): into `blocks` blocks, or into
four or as many as it can, so that the largest stage takes least memory (`balancing`). Cut or whole it computes the
same, bit for bit, and its submodules keep their names: `blocks.0.layer1.0.conv1.weight`. Blocks that are given stay as
they are, unless fewer are asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

from neulite_sim.errors import ScenarioError, close_matches
from neulite_sim.models.contract import BlockModel
from neulite_sim.models.copying import copied, let_count, maker_here
from neulite_sim.models.cut_plan import CutPlan, Places, plan_of
from neulite_sim.models.failures import failure_of
from neulite_sim.models.joined import Joined, JoinedPlan, joined, plan_of_joined
from neulite_sim.models.soundness import refused, require_logits, require_sound
from neulite_sim.models.tracing import without_numbers
from neulite_sim.samples import InputSpec

MOST_BLOCKS = 4
"""Into how many blocks a module is cut where nobody says it."""
BALANCED_AT = 32
"""Batch size at which it is balanced where nobody says what is charged."""
STATE_COPIES = 1
"""Tensors per weight of an optimizer with momentum."""

_OURS = ("input_shape", "num_classes", "width", "spec")
_TAKEN = "an nn.Module, a function or class that builds one, ([block, ...], head), or a BlockModel"

Settings = tuple[tuple[str, Any], ...]


def given_architecture(
    value: Any, *, options: Mapping[str, Any] | None = None, blocks: int | None = None, name: str | None = None
) -> GivenArchitecture:
    """Return the architecture that a value is; `options` go to a function or class, `blocks` is how many are wished.

    `name` is what it is called in messages; that of the class or function if it is not given.

    Raises:
        ScenarioError: the value is none that is taken (see the module), is a module that cannot be trained as it is, or
            `options` do not fit its parameters.
    """
    value = getattr(value, "_orig_mod", value) if isinstance(value, nn.Module) else value
    given = dict(options or {})
    name = name or _name_of(value)
    if (together := joined(value)) is not None:
        value = together
    if isinstance(value, nn.Module):
        if given:
            finding = f"options are given ({', '.join(given)}), but {name} is built already"
            raise refused(finding, "give the class or a function that builds it, or no options", "model.options")
        require_sound(value, name, torch.device("cpu"))
    elif callable(value):
        _require_options(value, given, name)
    else:
        raise refused(f"{name} cannot be used as a model", f"give {_TAKEN}")
    return GivenArchitecture(value=value, options=tuple(given.items()), blocks=blocks, name=name)


class _Plans(dict[Any, Any]):
    """What was found out so far. No kept profile is one of a model that holds it: its code is not known by a name."""


@dataclass(frozen=True, kw_only=True)
class GivenArchitecture:
    """The architecture of a model that was handed over.

    `cuts` are the numbers of parts before each cut, and `places` where the parts end, once they are settled; `remarks`
    then says, a sentence each, what a user should know of it: why it was not cut, or that it ends in a softmax.
    """

    value: Any
    options: Settings = ()
    blocks: int | None = None
    name: str = "model"
    cuts: tuple[int, ...] | None = None
    remarks: tuple[str, ...] = ()
    places: Places | None = None
    plans: _Plans = field(default_factory=lambda: _Plans(), compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "plans": _Plans()}

    def __call__(self, spec: InputSpec, width: float) -> BlockModel:
        """Return the model on PyTorch's current default device and generator; `width` as the module says.

        Raises:
            ScenarioError: a function fails or returns something else, the module makes no logits of such samples, or it
                is not to be cut into so many blocks.
        """
        made = self._made(spec, width)
        if isinstance(made, BlockModel):
            return self._as_given(made)
        plan = self._plan(spec, width, made)
        cuts = self.cuts
        if cuts is None:
            # As at width 1: the blocks of all widths must be the same.
            cuts = self._balanced(plan, spec, 1.0, BALANCED_AT, STATE_COPIES)
        return plan.model(made, cuts)

    def settled(self, spec: InputSpec, *, batch_size: int, state_copies: int) -> GivenArchitecture:
        """Return the architecture that is cut in the same places for any samples, where these are balanced best.

        Raises:
            ScenarioError: as for building.
        """
        if self.cuts is not None:
            return self
        with without_numbers():
            made = self._made(spec, 1.0)
            if isinstance(made, BlockModel):
                self._as_given(made)
                return self
            plan = self._plan(spec, 1.0, made)
        cuts = self._balanced(plan, spec, 1.0, batch_size, state_copies)
        places = plan.places if isinstance(plan, CutPlan) else None
        self.plans[spec, 1.0, places] = plan
        return replace(self, cuts=cuts, remarks=plan.remarks, places=places)

    @property
    def width_hint(self) -> str:
        """What to do where several widths are wanted; empty where the model has them."""
        if not isinstance(self.value, nn.Module) and "width" in _filled(self.value, dict(self.options)):
            return ""
        return f"{self.name} has one width; give a function with a parameter width, or a method that needs one width"

    def _as_given(self, model: BlockModel) -> BlockModel:
        if self.blocks is not None and self.blocks != model.num_blocks:
            finding = f"is {self.blocks}, but {self.name} is a BlockModel of {model.num_blocks}"
            raise refused(finding, "leave it out", "model.blocks")
        return model

    def _made(self, spec: InputSpec, width: float) -> nn.Module:
        """Return a module of one's own on the current device: a copy of the one given, or what the function returns."""
        here = torch.empty(0)
        has_numbers = not here.is_meta and not isinstance(here, FakeTensor)
        if isinstance(self.value, nn.Module):
            made = _copy(self.value, self.name)
            return made if has_numbers else let_count(made)
        if has_numbers:
            return self._built(spec, width, here.device)
        make = maker_here()
        try:
            with unset_fake_temporarily(), torch.device("meta"):
                found = self._built(spec, width, torch.device("meta"))
        except Exception:  # What needs numbers to be built is built with numbers.
            with unset_fake_temporarily(), torch.device("cpu"), torch.random.fork_rng(devices=[]):
                found = self._built(spec, width, torch.device("cpu"))
        return let_count(copied(found, make))

    def _built(self, spec: InputSpec, width: float, device: torch.device) -> nn.Module:
        arguments = dict(self.options)
        ours = {"input_shape": spec.shape, "num_classes": spec.num_classes, "width": width, "spec": spec}
        arguments.update({key: ours[key] for key in _filled(self.value, arguments)})
        try:
            found = self.value(**arguments)
        except ScenarioError:
            raise
        except Exception as failure:
            told = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key != "spec")
            finding = f"{self.name}({told}) failed: {type(failure).__name__}: {failure_of(failure)}"
            raise refused(finding, "see that line, or model.options") from failure
        module = joined(found) or found
        if not isinstance(module, nn.Module):
            raise refused(f"{self.name} returned {_name_of(found)}", f"let it return {_TAKEN}")
        require_sound(module, self.name, device)
        return module

    def _plan(self, spec: InputSpec, width: float, module: nn.Module) -> CutPlan | JoinedPlan:
        """Return where a module can be cut; found once for samples of one kind."""
        plans = self.plans
        width = 1.0 if self.width_hint else width
        key = spec, width, self.places
        if key not in plans:
            like = self.places
            with without_numbers():
                followed = let_count(copied(module, maker_here()))
                if like is None and width != 1.0 and not isinstance(followed, Joined):
                    # Names must not depend on the width, so neither may the places.
                    usual = self._plan(spec, 1.0, self._made(spec, 1.0))
                    like = usual.places if isinstance(usual, CutPlan) else None
            if isinstance(followed, Joined):
                plan = plan_of_joined(followed, spec, self.name)
                plans[key] = replace(plan, remarks=require_logits(followed, spec, self.name))
            else:
                plans[key] = plan_of(followed, spec, self.name, like)
        found: CutPlan | JoinedPlan = plans[key]
        return found

    def _balanced(
        self, plan: CutPlan | JoinedPlan, spec: InputSpec, width: float, batch_size: int, state_copies: int
    ) -> tuple[int, ...]:
        usual = plan.num_parts if isinstance(plan, JoinedPlan) else min(MOST_BLOCKS, plan.num_parts)
        wished = self.blocks or usual
        if wished > plan.num_parts:
            why = "".join(f" ({remark})" for remark in plan.remarks)
            finding = f"is {wished}, but {self.name} is a chain of {plan.num_parts} part(s){why}"
            raise refused(finding, f"use 1 to {plan.num_parts}, or leave it out", "model.blocks")
        plans = self.plans
        key = (spec, width, wished, batch_size, state_copies)
        if key not in plans:
            with without_numbers():
                module = self._made(spec, width)
                plan = self._plan(spec, width, module)
                plans[key] = plan.balanced(module, wished, batch_size=batch_size, state_copies=state_copies)
        cuts: tuple[int, ...] = plans[key]
        return cuts


def _copy(module: nn.Module, name: str) -> nn.Module:
    try:
        return copied(module, maker_here())
    except Exception as failure:
        finding = f"{name} cannot be copied: {type(failure).__name__}: {failure_of(failure)}"
        raise refused(finding, "give the class or a function that builds it") from failure


def _name_of(value: Any) -> str:
    if isinstance(value, nn.Module):
        return type(value).__name__
    if isinstance(value, type) or hasattr(value, "__name__"):
        return str(value.__name__)
    if callable(value):
        return getattr(getattr(value, "func", None), "__name__", type(value).__name__)
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}" if joined(value) is None else "the network of given blocks"
    if isinstance(value, Mapping):
        return "a mapping" if joined(value) is None else "the network of given blocks"
    return f"a {type(value).__name__}"


def _parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}


def _filled(function: Callable[..., Any], options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a function gets of what the scenario knows: what its parameters name and no option gives."""
    parameters = _parameters_of(function)
    named = (key for key in _OURS if key in parameters and key not in options)
    return tuple(key for key in named if key != "width" or parameters[key].default in (inspect.Parameter.empty, 1))


def _require_options(function: Callable[..., Any], options: Mapping[str, Any], name: str) -> None:
    """Refuse options that a function does not have, and parameters that nothing fills."""
    parameters = _parameters_of(function)
    kinds = inspect.Parameter
    takes_any = any(parameter.kind is kinds.VAR_KEYWORD for parameter in parameters.values())
    by_name = (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    named = [key for key, found in parameters.items() if found.kind in by_name]
    unknown = [key for key in options if key not in named]
    if unknown and not takes_any and parameters:
        finding = f"{name} has no parameter {unknown[0]}{close_matches(unknown[0], named)}"
        choices = f"its parameters are {', '.join(named)}" if named else "it has none"
        raise refused(finding, choices, f"model.options.{unknown[0]}")
    filled = {*_filled(function, options), *options}
    missing = [
        key
        for key, found in parameters.items()
        if found.default is kinds.empty
        and found.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        and (key not in filled or found.kind is kinds.POSITIONAL_ONLY)
    ]
    if missing:
        finding = f"nothing gives the parameter {missing[0]} of {name} a value"
        raise refused(finding, f"give it in model.options; known without are {', '.join(_OURS)}", "model")

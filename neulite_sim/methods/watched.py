"""A method of a user's own that is watched: what its functions return is looked at, and what fails is told in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from neulite_sim.errors import NeuliteError, SimulationError
from neulite_sim.later import torch
from neulite_sim.methods.contract import Method, OwnTraining, State
from neulite_sim.methods.offering import Offering, Proposal
from neulite_sim.user_code.calls import Found
from neulite_sim.user_code.origins import in_a_line, place_of

_HINT = "guides/write_a_method.md says what each function returns; check_method tests a method"
_RETURNS: Mapping[str, tuple[type, ...]] = {
    "digest": (State,), "evaluation_tensors": (Mapping,), "follow": (State,), "offering": (Offering,),
    "offers": (Proposal,), "own_training": (OwnTraining,), "payload": (Mapping,), "personal_payload": (Mapping,),
    "progress": (Mapping,), "settled": (Method,), "start": (State,), "trainee": (),
}  # fmt: skip
"""What functions of a method return; a trainee's class is known where PyTorch is loaded."""


def watched(method: Method, found: Found) -> Method:
    """Return a method of a user's own, each of whose functions is watched from now on.

    Raises:
        ScenarioError: its `submodels` are no names, or none.
    """
    names: Any = getattr(method, "submodels", None)
    if not isinstance(names, tuple) or not names or not all(isinstance(name, str) for name in names):
        raise found.refused(
            f"{found.name}.submodels is {'not there' if names is None else repr(names)[:60]}",
            'name what devices train, each once: submodels = ("full",)',
        )
    for name in _RETURNS:
        setattr(method, name, _Watched(method, name))
    return method


class _Watched:
    """Stands for one function of a method."""

    def __init__(self, method: Method, name: str) -> None:
        self._method = method
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function returns.

        Raises:
            SimulationError: it fails, or that is nothing of the kind.
        """
        kind = type(self._method)
        function: Callable[..., Any] = getattr(kind, self._name)
        called = f"{kind.__name__}.{self._name}{place_of(kind)}"
        try:
            made = function(self._method, *args, **kwargs)
        except NeuliteError:
            raise
        except NotImplementedError as error:
            raise SimulationError(f"{called} is missing, and every method needs it", hint=_HINT) from error
        except Exception as error:
            raise SimulationError(f"{called} fails: {in_a_line(error)}", hint=_HINT) from error
        wanted = _RETURNS[self._name] or (_trainee(),)
        if not isinstance(made, wanted):
            told = f"{called} returns {_a(made)}, not {_an(wanted[0].__name__)}"
            raise SimulationError(told, hint=_HINT)
        if self._name == "digest":
            before: State = args[0] if args else kwargs["state"]
            _require_same_names(called, made, before)
        return made


def _require_same_names(called: str, made: Any, before: State) -> None:
    """Refuse a state without tensors of the one before, or with others in their place."""
    for name, tensor in before.tensors.items():
        if name not in made.tensors:
            raise SimulationError(f"{called} returns a State without {name!r}, which the one before has", hint=_HINT)
        if told := mismatch(made.tensors[name], tensor):
            raise SimulationError(f"{called} returns {told} for {name!r}", hint=_HINT)


def mismatch(made: Any, wanted: Any) -> str:
    """Return in words why a value cannot take a tensor's place; nothing where it can."""
    if not isinstance(made, torch.Tensor):
        if type(made).__module__ == "numpy":
            return "a NumPy array, not a torch.Tensor; torch.from_numpy makes one of it,"
        return f"{_a(made)}, not a torch.Tensor,"
    if made.shape != wanted.shape:
        return f"a tensor of shape {tuple(made.shape)}, not {tuple(wanted.shape)},"
    if made.layout != torch.strided or made.is_meta or made.is_complex():
        return f"a tensor of {made.dtype} and {made.layout} on {made.device}, not one of plain numbers,"
    return ""


def _trainee() -> type:
    from neulite_sim.models.trainee import Trainee

    return Trainee


def _a(value: Any) -> str:
    return "None" if value is None else _an(type(value).__name__)


def _an(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"

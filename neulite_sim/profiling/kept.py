"""Profiles that are kept on disk, so that no later command makes them again.

What is no profile of what was asked for is dropped in silence and made again; see `kept_files`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neulite_sim.profiling.kept_files import KeptFiles, kept_folder
from neulite_sim.profiling.roofline import OperatorKind

if TYPE_CHECKING:
    from neulite_sim.profiling.profile import Profile

_Count = Annotated[int, Field(ge=0, lt=2**62)]
_Amount = Annotated[float, Field(ge=0, lt=2.0**62)]
_Amounts = list[_Amount]
_Kinds = list[Annotated[int, Field(ge=0, lt=len(OperatorKind))]]


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Split(_Checked):
    parameters: _Count
    gradients: _Count
    optimizer: _Count
    activations: _Count
    inputs: _Count
    temporaries: _Count


class _Entry(_Checked):
    """A profile as it stands in a file."""

    submodel: str
    batch_size: _Count
    parameters: _Count
    trainable_parameters: _Count
    memory: _Split
    operator_flops: _Amounts
    operator_bytes: _Amounts
    operator_kinds: _Kinds | None
    bytes_down: _Count
    bytes_up: _Count
    micro_batch_sizes: list[_Count]
    allocator_bytes: _Count | None
    kept_bytes_per_sample: _Count
    later_operator_flops: _Amounts | None
    later_operator_bytes: _Amounts | None
    later_operator_kinds: _Kinds | None
    operator_counts: _Amounts | None
    later_operator_counts: _Amounts | None
    compares_samples: bool
    part_peaks_bytes: list[_Count]
    part_kept_bytes_per_sample: list[_Count]
    process_bytes: _Count | None
    loaded_bytes: _Count
    compared_with_memory: Literal["tensor_bytes", "allocator_bytes", "process_bytes"]

    @model_validator(mode="after")
    def _is_of_one_submodel(self) -> Self:
        first = (self.operator_flops, self.operator_bytes, self.operator_kinds, self.operator_counts)
        later = (self.later_operator_flops, self.later_operator_bytes, self.later_operator_kinds,
                 self.later_operator_counts)  # fmt: skip
        if any(len({len(column) for column in step if column is not None}) > 1 for step in (first, later)):
            raise ValueError("has columns of several lengths")
        if (later[0] is None) != (later[1] is None):
            raise ValueError("has half of a later step")
        if self.trainable_parameters > self.parameters:
            raise ValueError("has a part that is more than the whole")
        if sum(self.micro_batch_sizes) != self.batch_size:
            raise ValueError("has micro-batches of another batch")
        if len(self.part_peaks_bytes) != len(self.part_kept_bytes_per_sample):
            raise ValueError("has half of its parts")
        if self.compared_with_memory != "tensor_bytes" and getattr(self, self.compared_with_memory) is None:
            raise ValueError("lacks what is compared with memory")
        return self


_COLUMNS = tuple(name for name in _Entry.model_fields if "operator_" in name)
_TUPLES = ("micro_batch_sizes", "part_peaks_bytes", "part_kept_bytes_per_sample")


@dataclass(frozen=True, slots=True)
class KeptProfiles(KeptFiles):
    """The profiles kept in a folder, which need not be there yet."""

    def find(self, identity: str, submodel: str, batch_size: int) -> Profile | None:
        """Return the profile of an identity; None where none is kept, or one that is damaged, which is dropped."""
        content = self.content(identity)
        found = None if content is None else _read(content)
        if content is not None and (found is None or (found.submodel, found.batch_size) != (submodel, batch_size)):
            self.drop(identity)
            return None
        return found

    def keep(self, identity: str, profile: Profile) -> None:
        """Keep a profile; nothing happens where that is not possible, or where it would not be believed again."""
        plain = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(profile).items()
        }  # fmt: skip
        found = _read(_as_read(plain))
        if found is not None and _equal(found, profile):
            self.put(identity, plain)


def kept_profiles() -> KeptProfiles | None:
    """Return where the user's profiles are kept; None where they are not to be kept."""
    folder = kept_folder()
    return None if folder is None else KeptProfiles(folder)


def _as_read(plain: Any) -> Any:
    """Return what JSON gives back of plain values."""
    return json.loads(json.dumps(plain))


def _equal(found: Profile, profile: Profile) -> bool:
    """Return whether nothing is lost by writing and reading, types of numbers included."""
    pairs = [(getattr(found, item.name), getattr(profile, item.name)) for item in fields(profile)]
    return all(
        one.dtype == other.dtype and np.array_equal(one, other)
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray)
        else type(one) is type(other) and one == other
        for one, other in pairs
    )


def _read(content: Any) -> Profile | None:
    """Return the profile in what was kept; None where it is none."""
    try:
        entry = _Entry.model_validate(content)
    except ValidationError:
        return None
    from neulite_sim.profiling.profile import Profile
    from neulite_sim.profiling.tracer import MemoryBytes

    values: dict[str, Any] = {name: getattr(entry, name) for name in _Entry.model_fields}
    for name in _COLUMNS:
        if values[name] is not None:
            values[name] = np.array(values[name], dtype=np.int8 if name.endswith("kinds") else np.float64)
    memory = MemoryBytes(**entry.memory.model_dump())
    return Profile(**{**values, "memory": memory, **{name: tuple(values[name]) for name in _TUPLES}})

"""What somebody hands over as data: arrays of two parts, where each sample stands, and how a refusal reads.

Readers of files (`array`, `csv`, `huggingface`) and of what is given from Python (`given`) end in one `Handed`, and
`interpreting` makes the dataset of it: the same arrays give the same dataset, however they came.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError
from neulite_sim.outside import printable, user_path

Array = NDArray[Any]
Place = Callable[[str, int], str]
"""`place(part, number)`: what a user calls a sample of the part "train" or "test"."""


def sample_place(part: str, number: int) -> str:
    """Return "train sample 17"; samples are counted from 0."""
    return f"{part} sample {number:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """Inputs and labels as they were handed over, one entry per sample; no test part where `test_inputs` is None.

    `classes` says that labels are numbers of so many classes, `unscaled` which columns of a table stay as they are, and
    `groups` names the owner of each training sample.
    """

    train_inputs: Any
    train_labels: Any
    test_inputs: Any = None
    test_labels: Any = None
    groups: Any = None
    classes: int | None = None
    unscaled: NDArray[np.bool_] | None = None
    place: Place = sample_place


def require_files(name: str, *files: str | None, hint: str, folders: bool = False) -> tuple[str, ...]:
    """Return nothing, as a survey of files that hold nothing to be told of.

    Raises:
        DataNotFoundError: a file is not there, or is a folder where none may be.
    """
    for file in files:
        path = None if file is None else user_path(file).absolute()
        if path is not None and not (path.is_file() or (folders and path.is_dir())):
            what = "is a folder" if path.is_dir() else "is not there"
            raise DataNotFoundError(f"{name}: {printable(str(path))} {what}", hint=hint)
    return ()


def refusal(name: str, found: str, hint: str, *, key: str = "data") -> ScenarioError:
    """Return the error for what is wrong with data called `name`, with what to do."""
    return ScenarioError([Problem.advising(key=key, found=f"{name}: {printable(found)}", hint=hint)])


def array_of(name: str, what: str, value: Any) -> Array:
    """Return arrays, tensors, tables and lists as one NumPy array; no copy where none is needed.

    Raises:
        ScenarioError: samples differ in shape, or it is nothing of numbers or texts.
    """
    if isinstance(value, np.ndarray):
        found = _unmasked(name, what, value)
    elif hasattr(value, "toarray"):
        raise refusal(name, f"{what} is a sparse matrix", "give its toarray()")
    elif type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        if str(value.layout) != "torch.strided":
            raise refusal(name, f"{what} is a tensor of layout {value.layout}", "give its to_dense()")
        found = _of_tensor(value)
    else:
        try:
            found = np.asarray(value)
        except ValueError:
            found = _of_sequence(value)
    if found.ndim == 0:
        raise refusal(name, f"{what} is {value!r:.60}, not one entry per sample", "give an array, a tensor or a list")
    if found.dtype.kind == "U" and isinstance(value, list | tuple):
        # NumPy makes texts of numbers beside texts.
        found = np.array(value, object)
    return _of_objects(name, what, found) if found.dtype == object else found


def _unmasked(name: str, what: str, array: Array) -> Array:
    if not isinstance(array, np.ma.MaskedArray):
        return array
    masked = int(np.ma.getmaskarray(array).sum())
    if masked:
        found = f"{what} is a masked array, {masked:,} of whose values are masked"
        raise refusal(name, found, "fill them in (value.filled(...)) or remove these samples")
    return np.asarray(array)


def _of_tensor(tensor: Any) -> Array:
    plain = tensor.detach().cpu()
    # NumPy has no bfloat16.
    numbers: Array = (plain.float() if str(plain.dtype) == "torch.bfloat16" else plain).numpy()
    return numbers


def _of_sequence(values: Sequence[Any]) -> Array:
    found = np.empty(len(values), object)
    found[:] = [np.asarray(item) for item in values]
    return found


def _of_objects(name: str, what: str, objects: Array) -> Array:
    """Return an array of arrays, or of values of one kind, as a plain array.

    Raises:
        ScenarioError: the first entry that is of another shape or kind than the one before it.
    """
    if objects.ndim == 1 and any(isinstance(item, np.ndarray | list | tuple) for item in objects):
        pieces = [np.asarray(item) for item in objects]
        other = next((place for place, item in enumerate(pieces) if item.shape != pieces[0].shape), None)
        if other is not None:
            found = f"{what} has samples of different shapes: number 0 is {pieces[0].shape}, number {other:,} is "
            hint = "pad or cut them to one shape, or resample them with image_size"
            raise refusal(name, f"{found}{pieces[other].shape}", hint)
        stacked = np.stack(pieces)
        return stacked if stacked.dtype != object else _of_objects(name, what, stacked)
    flat = objects.ravel()
    kinds = [_kind_of(item) for item in flat]
    wrong = next((place for place, kind in enumerate(kinds) if kind != kinds[0] or not kind), None)
    if wrong is not None:
        at = wrong // max(1, objects[0].size if objects.ndim > 1 else 1)
        raise refusal(
            name,
            f"{what} has {flat[wrong]!r:.40} at number {at:,}, and {flat[0]!r:.40} at number 0",
            "give numbers alone, or texts alone, with nothing missing",
        )
    return np.array(flat.tolist(), None if kinds[:1] != ["text"] else str).reshape(objects.shape)


def _kind_of(item: object) -> str:
    """Return "text", "truth" or "number"; nothing for what is neither."""
    if isinstance(item, str):
        return "text"
    if isinstance(item, bool | np.bool_):
        return "truth"
    return "number" if isinstance(item, int | float | np.integer | np.floating) and item == item else ""

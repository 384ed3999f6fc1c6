"""Data given from Python: arrays, tensors, datasets of PyTorch or of the library `datasets`, or a function of these.

    given_dataset((train_x, train_y, test_x, test_y), name="mine")
    given_dataset({"train": (x, y), "test": (x, y)}, name="mine", options={"channels": "last"})
    given_dataset((torchvision_train, torchvision_test), name="mine")
    given_dataset(frame, name="mine", options={"label": "vote"})        # a data frame of pandas
    given_dataset(load, name="mine", options={"folder": "~/scans"})     # load(folder) returns any of them

`HandedOptions` are the options of reading; those that a function's parameters name go to the function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from neulite_sim.data.arrow import HandedTableOptions, handed_of_tables
from neulite_sim.data.contract import AnyDataset
from neulite_sim.data.frames import handed_of_frames, is_frame
from neulite_sim.data.given_partition import given_deal, given_partition
from neulite_sim.data.handing import Handed, refusal
from neulite_sim.data.image_files import Sentences
from neulite_sim.data.interpreting import dataset_of
from neulite_sim.data.naming import handed_of_names
from neulite_sim.data.reading_datasets import Items, Keys, handed_of_items, is_dataset, read_items
from neulite_sim.errors import Problem, ScenarioError

__all__ = ["given_dataset", "given_deal", "given_partition"]

FORMS = (
    "give (train_x, train_y, test_x, test_y), a mapping of arrays, a pair of datasets with a length and items, a "
    "dataset of the library datasets, a data frame, or a function that returns one of these"
)


_OPTIONS = {"train_inputs": "input", "train_labels": "label", "groups": "group"}
"""By which options arrays of any name are said to be these."""


def given_dataset(
    value: Any, *, name: str, options: Mapping[str, Any] = {}, seed: int = 0, group: str | None = None
) -> AnyDataset:
    """Return the dataset that a value given from Python stands for; `seed` acts on subsets and on functions.

    `group` is the column by which a partition wants it grouped; it acts where columns have names and the options say
    nothing of it.

    Raises:
        ScenarioError: it stands for none, or an option is unknown; the message names the sample where one is wrong.
    """
    if is_complete(value):
        if options:
            found = f"{name}: options act on arrays only, and this is a dataset already"
            hint = f"remove {', '.join(options)}"
            raise ScenarioError([Problem.advising(key="data", found=found, hint=hint)])
        dataset: AnyDataset = value
        return dataset
    if _is_function(value):
        arguments, rest = _arguments(value, options, seed)
        made = value(**arguments)
        if _is_function(made):
            raise refusal(name, f"the function returned {type(made).__name__}, not data", FORMS)
        return given_dataset(made, name=name, options=rest, seed=seed, group=group)
    sentences = Sentences(name)
    reading = reading_options(options)
    if group is not None and reading.group is None and _has_names(value):
        reading = reading.model_copy(update={"group": group})
    return dataset_of(_handed(value, reading, sentences), reading, sentences, seed)


def is_complete(value: Any) -> bool:
    """Return whether a value keeps the contract of a dataset already."""
    return all(hasattr(value, name) for name in ("spec", "train_inputs", "train_labels", "test_inputs", "seen"))


def reading_options(options: Mapping[str, Any]) -> HandedTableOptions:
    """Return the options of reading arrays.

    Raises:
        ScenarioError: one is unknown or out of range; all such problems at once.
    """
    try:
        return HandedTableOptions.model_validate(dict(options))
    except ValidationError as wrong:
        known = ", ".join(HandedTableOptions.model_fields)
        raise ScenarioError(
            [
                Problem.advising(
                    key=f"data.{'.'.join(map(str, each['loc']))}", found=each["msg"], hint=f"known: {known}"
                )
                if each["type"] == "extra_forbidden"
                else Problem(key=f"data.{'.'.join(map(str, each['loc']))}", message=each["msg"])
                for each in wrong.errors()
            ]
        ) from None


def _is_function(value: Any) -> bool:
    return callable(value) and not is_dataset(value) and not hasattr(value, "__array__")


def _arguments(
    function: Callable[..., Any], options: Mapping[str, Any], seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a function is called with, and the options that are left for reading what it returns."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}, dict(options)
    takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    reading = HandedTableOptions.model_fields
    own = {key: option for key, option in options.items() if key in parameters or (takes_all and key not in reading)}
    rest = {key: option for key, option in options.items() if key not in own}
    return ({"seed": seed, **own} if "seed" in parameters else own), rest


def _handed(value: Any, options: HandedTableOptions, sentences: Sentences) -> Handed:
    name = sentences.kind
    if _is_of_datasets(value):
        return handed_of_tables(_splits(name, value), options, sentences)
    if isinstance(value, tuple | list | Mapping) and any(map(_is_of_datasets, _members(value))):
        return handed_of_tables(_named_splits(name, value), options, sentences)
    if is_frame(value):
        return handed_of_frames(value, None, options, sentences)
    if isinstance(value, Mapping):
        parts = {str(key).lower(): item for key, item in value.items()}
        if "train" in parts and parts.keys() <= {"train", "test"}:
            return _of_parts(parts["train"], parts.get("test"), options, sentences)
        chosen = {role: getattr(options, option) for role, option in _OPTIONS.items()}
        return handed_of_names({str(key): item for key, item in value.items()}, chosen, sentences, _OPTIONS)
    if is_dataset(value):
        return _of_parts(value, None, options, sentences)
    if isinstance(value, tuple | list):
        return _of_sequence(value, options, sentences)
    raise _not_data(name, value)


def _not_data(name: str, value: Any) -> ScenarioError:
    what = f"a {type(value).__name__} is no data"
    if hasattr(value, "dataset") and hasattr(value, "__iter__"):
        return refusal(name, what, "give its .dataset: batches are cut by the devices")
    if (hasattr(value, "__iter__") or hasattr(value, "__getitem__")) and not hasattr(value, "__len__"):
        return refusal(name, f"{what}: it has no length", "read it into arrays or a list of pairs first")
    return refusal(name, what, FORMS)


def _of_sequence(value: Sequence[Any], options: HandedTableOptions, sentences: Sentences) -> Handed:
    name = sentences.kind
    if len(value) == 2 and all(map(_is_part, value)):
        return _of_parts(value[0], value[1], options, sentences)
    other = next((item for item in value if not (is_dataset(item) or _is_frame_of_rows(item))), None)
    if other is not None and any(is_dataset(item) for item in value):
        raise _not_data(name, other)
    _refuse_columns(name, options)
    if len(value) == 2:
        return Handed(train_inputs=value[0], train_labels=value[1])
    if len(value) != 4:
        raise refusal(name, f"a {type(value).__name__} of {len(value)} is no data", FORMS)
    lengths = [len(item) if hasattr(item, "__len__") else -1 for item in value]
    first, second, third, fourth = value
    if lengths[0] == lengths[2] != lengths[1] == lengths[3]:
        sentences.say("read in the order of scikit-learn's train_test_split: train_x, test_x, train_y, test_y")
        second, third = third, second
    return Handed(train_inputs=first, train_labels=second, test_inputs=third, test_labels=fourth)


def _is_part(item: Any) -> bool:
    """Return whether an item is a part of its own, inputs and labels, and not inputs or labels alone."""
    is_pair = isinstance(item, tuple | list) and len(item) == 2 and all(hasattr(each, "__array__") for each in item)
    return is_pair or is_dataset(item) or _is_frame_of_rows(item)


def _is_frame_of_rows(item: Any) -> bool:
    return is_frame(item) and item.ndim == 2


def _of_parts(train: Any, test: Any, options: HandedTableOptions, sentences: Sentences) -> Handed:
    if is_frame(train) and (test is None or is_frame(test)):
        return handed_of_frames(train, test, options, sentences)
    first = _part(train, "train", options, sentences)
    second = Items(inputs=None, targets=None) if test is None else _part(test, "test", options, sentences)
    return handed_of_items(first, second)


def _part(part: Any, which: str, options: HandedTableOptions, sentences: Sentences) -> Items:
    if isinstance(part, tuple | list) and len(part) == 2:
        _refuse_columns(sentences.kind, options)
        return Items(inputs=part[0], targets=part[1])
    if is_dataset(part):
        keys = Keys(input=options.input, label=options.label, group=options.group)
        return read_items(part, which, sentences, side=options.image_size, keys=keys)
    if isinstance(part, tuple | list | Mapping):
        hint = "give inputs and labels of each part, as in {'train': (x, y), 'test': (x, y)}"
        raise refusal(sentences.kind, f"the {which} part is a {type(part).__name__} of {len(part)}", hint)
    raise _not_data(sentences.kind, part)


def _has_names(value: Any) -> bool:
    """Return whether parts of the samples, or columns, have names."""
    if _is_of_datasets(value) or is_frame(value):
        return True
    if isinstance(value, Mapping):
        parts = {str(key).lower(): item for key, item in value.items()}
        return "train" not in parts or _has_names(parts["train"])
    if is_dataset(value):
        return len(value) > 0 and isinstance(value[0], Mapping)
    is_pair = isinstance(value, tuple | list) and len(value) == 2
    return is_pair and (_is_part(value[0]) or _is_of_datasets(value[0])) and _has_names(value[0])


def _is_of_datasets(value: Any) -> bool:
    return any(kind.__module__.partition(".")[0] == "datasets" for kind in type(value).__mro__)


def _members(value: Any) -> list[Any]:
    return list(value.values() if isinstance(value, Mapping) else value)


def _named_splits(name: str, value: Any) -> dict[str, Any]:
    """Return two datasets of the library as splits.

    Raises:
        ScenarioError: there is something else among them.
    """
    named = dict(value) if isinstance(value, Mapping) else dict(zip(("train", "test"), value, strict=False))
    if not all(map(_is_of_datasets, named.values())) or len(named) != len(value):
        raise refusal(name, f"a {type(value).__name__} of {len(value)} with datasets in it is no data", FORMS)
    return {str(part): next(iter(_splits(name, split).values())) for part, split in named.items()}


def _refuse_columns(name: str, options: HandedTableOptions) -> None:
    """Refuse names of columns where there are none.

    Raises:
        ScenarioError: all of them at once.
    """
    given = [option for option in ("input", "label", "group") if getattr(options, option) is not None]
    if given:
        found = f"{name}: acts only where arrays, columns or parts of an item have names"
        raise ScenarioError([Problem.advising(key=f"data.{option}", found=found, hint="remove it") for option in given])


def _splits(name: str, value: Any) -> dict[str, Any]:
    """Return the splits of what the library `datasets` made.

    Raises:
        ScenarioError: it is a stream.
    """
    if "Iterable" in type(value).__name__:
        raise refusal(name, f"a {type(value).__name__} is a stream", "load it without streaming=True")
    return dict(value) if isinstance(value, Mapping) else {"train": value}

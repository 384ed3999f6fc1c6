"""Arrays of your own: an `.npz` file, a folder of `.npy` files, or `.npy` files named one by one.

Which array is which is told by its name (`x_train`, `train_images`, `y_test`, `labels`; see `naming`) or by an option.
Pickled objects are not read: `numpy.load(allow_pickle=False)`.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neulite_sim.bounds import Name
from neulite_sim.data.contract import AnyDataset
from neulite_sim.data.handing import Handed, require_files
from neulite_sim.data.image_files import Sentences, entries, is_hidden
from neulite_sim.data.interpreting import HandedOptions, dataset_of
from neulite_sim.data.naming import ROLES, named
from neulite_sim.errors import DataNotFoundError, NeuliteError, Problem, ScenarioError
from neulite_sim.outside import TABLE_BYTES, open_regular, printable, user_path
from neulite_sim.registry import Component
from neulite_sim.room import require_room
from neulite_sim.scenario.inputs import InputFile, InputPath

KIND = "array"
ADVICE = "data.path names an .npz file, a folder of .npy files, or one .npy file beside data.labels_path"
_FILES = ("labels_path", "test_path", "test_labels_path")


class ArrayOptions(HandedOptions):
    """Options of `array`."""

    path: InputPath
    """An .npz file, a folder of .npy files, or the .npy file of the training inputs."""
    labels_path: InputFile | None = None
    """The .npy file of the training labels, where `path` is one of inputs."""
    test_path: InputFile | None = None
    """The .npy file of the test inputs, where `path` is one of inputs."""
    test_labels_path: InputFile | None = None
    """The .npy file of the test labels, where `path` is one of inputs."""
    train_inputs: Name | None = None
    """Name of the array of training inputs."""
    train_labels: Name | None = None
    """Name of the array of training labels."""
    test_inputs: Name | None = None
    """Name of the array of test inputs."""
    test_labels: Name | None = None
    """Name of the array of test labels."""
    groups: Name | None = None
    """Name of the array with the owner of each training sample, for partition `natural`."""


def build(options: ArrayOptions, seed: int) -> AnyDataset:
    """Return the arrays as a dataset; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: a file is missing, damaged, or holds objects.
        ScenarioError: it is not plain which array is which, or they are no samples with classes.
    """
    sentences = Sentences(KIND)
    path = user_path(options.path).absolute()
    if path.suffix == ".npy" and not path.is_dir():
        handed = _of_files(options, path)
    else:
        handed = _of_names(options, path, sentences)
    return dataset_of(handed, options, sentences, seed)


def _of_files(options: ArrayOptions, path: Path) -> Handed:
    _refuse(options, ROLES, "acts only where path holds several arrays")
    if options.labels_path is None:
        raise _wrong("labels_path", "is missing", "name the .npy file with the training labels")
    if (options.test_path is None) != (options.test_labels_path is None):
        lack = "test_path" if options.test_path is None else "test_labels_path"
        raise _wrong(lack, "is missing", "name both files of the test part, or none")
    files = {
        "train_labels": options.labels_path,
        "test_inputs": options.test_path,
        "test_labels": options.test_labels_path,
    }
    arrays: dict[str, Any] = {
        role: _npy(user_path(file).absolute()) for role, file in files.items() if file is not None
    }
    return Handed(train_inputs=_npy(path), **arrays)


def _of_names(options: ArrayOptions, path: Path, sentences: Sentences) -> Handed:
    _refuse(options, _FILES, "acts only where path is one .npy file")
    chosen = {role: getattr(options, role) for role in ROLES}
    if path.is_dir():
        files = {place.stem: place for place in entries(KIND, path, ADVICE)
                 if place.suffix == ".npy" and not is_hidden(place.name)}  # fmt: skip
        if not files:
            raise DataNotFoundError(f"{KIND}: {printable(str(path))} holds no .npy file", hint=ADVICE)
        found = named(list(files), chosen, sentences)
        arrays: dict[str, Any] = {role: _npy(files[name]) for role, name in found.items()}
        return Handed(**arrays)
    return Handed(**_npz(path, chosen, sentences))


def _wrong(option: str, found: str, hint: str) -> ScenarioError:
    return ScenarioError([Problem.advising(key=f"data.{option}", found=found, hint=hint)])


def _refuse(options: ArrayOptions, names: tuple[str, ...], why: str) -> None:
    given = [name for name in names if getattr(options, name) is not None]
    if given:
        raise _wrong(given[0], why, "remove it")


def _unreadable(path: Path, failure: Exception) -> DataNotFoundError:
    if isinstance(failure, FileNotFoundError):
        return DataNotFoundError(f"{KIND}: there is no file {printable(str(path))}", hint=ADVICE)
    why = printable(str(getattr(failure, "strerror", None) or failure or type(failure).__name__))
    if "allow_pickle" in why or "ython objects" in why:
        hint = "save arrays of numbers or texts: numpy.save(path, numpy.array(list))"
        return DataNotFoundError(f"{KIND}: {printable(str(path))} holds pickled objects, which are not read", hint=hint)
    return DataNotFoundError(f"{KIND}: {printable(str(path))} cannot be read ({why})", hint=ADVICE)


def _npy(path: Path) -> np.ndarray[Any, Any]:
    """Return an array as a map of its file, of which only what is looked at is read.

    Raises:
        DataNotFoundError: it is missing, damaged, or holds objects.
    """
    try:
        with open_regular(path, most_bytes=TABLE_BYTES) as file:
            # What begins otherwise NumPy would take for a pickle, and say so.
            np.lib.format.read_magic(file)
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except Exception as failure:
        # Whatever damaged bytes make NumPy raise, they are the file's fault.
        raise _unreadable(path, failure) from None


def _npz(path: Path, chosen: Mapping[str, str | None], sentences: Sentences) -> dict[str, Any]:
    """Return the arrays of an .npz file by role; the others are not unpacked.

    Raises:
        DataNotFoundError: it is missing, damaged, or holds objects.
    """
    try:
        with open_regular(path, most_bytes=TABLE_BYTES) as file, zipfile.ZipFile(file) as packed:
            sizes = {item.filename.removesuffix(".npy"): item.file_size for item in packed.infolist()}
            found = named(list(sizes), chosen, sentences)
            require_room(
                sum(sizes[name] for name in found.values()), f"the arrays of {path}", key="data.path",
                advice="save fewer samples, or .npy files, of which parts are read",
            )  # fmt: skip
            return {role: _unpacked(packed, name, sizes[name]) for role, name in found.items()}
    except NeuliteError:
        raise
    except Exception as failure:
        raise _unreadable(path, failure) from None


def _unpacked(packed: zipfile.ZipFile, name: str, size: int) -> Any:
    member = f"{name}.npy" if f"{name}.npy" in packed.namelist() else name
    with packed.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        # NumPy makes room for what a header says before it reads anything.
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size:
            raise ValueError(f"{member} says that it holds more than it does")
    with packed.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def survey(options: ArrayOptions) -> tuple[str, ...]:
    """Return nothing.

    Raises:
        DataNotFoundError: a file is not there.
    """
    require_files(KIND, options.path, hint=ADVICE, folders=True)
    return require_files(KIND, options.labels_path, options.test_path, options.test_labels_path, hint=ADVICE)


COMPONENT = Component(
    kind=KIND,
    summary="your own arrays: an .npz file, or .npy files; images, rows of numbers or tokens",
    source="this project; the files are those of numpy.savez and numpy.save",
    options=ArrayOptions,
    build=build,
    survey=survey,
)

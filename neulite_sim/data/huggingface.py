"""Datasets of the library `datasets` on this machine: a folder that `save_to_disk` made, or Parquet and Arrow files.

Both are read with pyarrow alone, pictures with Pillow: nothing is downloaded, no cache is written and no code of a
dataset is run. What the library notes beside the columns (classes, pictures) is in the files themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neulite_sim.data.arrow import HandedTableOptions, handed_of_tables
from neulite_sim.data.columns import arrow
from neulite_sim.data.contract import AnyDataset
from neulite_sim.data.handing import require_files
from neulite_sim.data.image_files import Sentences, entries, is_hidden, listed
from neulite_sim.data.interpreting import dataset_of
from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import TABLE_BYTES, open_regular, plain_json, printable, read_regular, user_path
from neulite_sim.registry import Component
from neulite_sim.scenario.inputs import InputFile, InputPath

KIND = "huggingface"
ADVICE = "data.path names a folder made by save_to_disk, a folder of .parquet files, or one .parquet or .arrow file"
SUFFIXES = (".parquet", ".arrow")
_SHARD = re.compile(r"(?P<split>.+?)(-\d+-of-\d+|-\d+|_\d+)?")


class HuggingFaceOptions(HandedTableOptions):
    """Options of `huggingface`."""

    path: InputPath
    """A folder that `save_to_disk` made, a folder of .parquet files called by their split, or one such file."""
    test_path: InputFile | None = None
    """A .parquet or .arrow file with the test part, where `path` is a file."""


Split = tuple[Any, Mapping[str, Any]]
"""A table, and what the library knows of its columns."""


def build(options: HuggingFaceOptions, seed: int) -> AnyDataset:
    """Return the dataset; `seed` acts only on subsets.

    Raises:
        NeuliteError: pyarrow is not installed.
        DataNotFoundError: there is no such file or folder, or it is not of these formats.
        ScenarioError: it is not plain which column is what, or a value is wrong.
    """
    arrow()
    sentences = Sentences(KIND)
    path = user_path(options.path).absolute()
    splits = _of_folder(path, sentences) if path.is_dir() else {"train": _of_files([path])}
    if options.test_path is not None:
        if "test" in splits:
            raise DataNotFoundError(f"{KIND}: {printable(str(path))} has a test part", hint="remove data.test_path")
        splits = {"train": _train_of(splits, path), "test": _of_files([user_path(options.test_path).absolute()])}
    handed = handed_of_tables(splits, options, sentences)
    return dataset_of(handed, options, sentences, seed)


def _train_of(splits: Mapping[str, Split], path: Path) -> Split:
    if "train" not in splits and len(splits) > 1:
        found = f"{KIND}: {printable(str(path))} has no split train: {listed(splits)}"
        raise DataNotFoundError(found, hint="name one .parquet file with data.path")
    return splits["train"] if "train" in splits else next(iter(splits.values()))


def _of_folder(folder: Path, sentences: Sentences) -> dict[str, Split]:
    if (folder / "dataset_dict.json").is_file():
        names = _json(folder / "dataset_dict.json").get("splits")
        if not isinstance(names, list) or not all(isinstance(name, str) and _is_name(name) for name in names):
            raise _wrong(folder / "dataset_dict.json", "it names no splits")
        return {name: _saved(folder / name) for name in names}
    if (folder / "state.json").is_file():
        return {"train": _saved(folder)}
    places = [place for top in (folder, folder / "data") if top.is_dir() for place in entries(KIND, top, ADVICE)]
    files = [place for place in places if place.suffix in SUFFIXES and not is_hidden(place.name)]
    if not files:
        raise DataNotFoundError(f"{KIND}: {printable(str(folder))} holds no dataset", hint=ADVICE)
    by_split: dict[str, list[Path]] = {}
    for file in files:
        shard = _SHARD.fullmatch(file.stem)
        by_split.setdefault(shard["split"] if shard else file.stem, []).append(file)
    others = [
        place.name for place in places if place not in files and place.name != "data" and not is_hidden(place.name)
    ]
    if others:
        sentences.say(f"{folder} holds more than these files, which is not looked at: {listed(others)}")
    return {name: _of_files(files) for name, files in by_split.items()}


def _is_name(name: str) -> bool:
    return Path(name).name == name and name not in ("", ".", "..")


def _saved(folder: Path) -> Split:
    """Return what `save_to_disk` wrote into a folder."""
    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise _wrong(folder, "its samples are chosen by a table of indices")
    files = state.get("_data_files")
    names = [each.get("filename") for each in files if isinstance(each, dict)] if isinstance(files, list) else []
    if not names or not all(isinstance(name, str) and _is_name(name) for name in names):
        raise _wrong(folder / "state.json", "it names no files")
    return _of_files([folder / str(name) for name in names])


def _json(path: Path) -> dict[str, Any]:
    try:
        found = plain_json(read_regular(path))
    except OSError as failure:
        raise _wrong(path, failure.strerror or str(failure)) from None
    except ValueError as failure:
        raise _wrong(path, str(failure)) from None
    if not isinstance(found, dict):
        raise _wrong(path, "it holds no object")
    return found


def _wrong(path: Path, why: str) -> DataNotFoundError:
    return DataNotFoundError(f"{KIND}: {printable(str(path))} cannot be read ({printable(why)})", hint=ADVICE)


def _of_files(paths: Sequence[Path]) -> Split:
    """Return the table that one or more files hold together."""
    tables = [_file(path) for path in paths]
    try:
        table = arrow().concat_tables(tables)
    except Exception as failure:
        raise _wrong(paths[1], f"its columns are not those of {paths[0].name}: {failure}") from None
    return table, _features(table)


def _file(path: Path) -> Any:
    if path.suffix not in SUFFIXES:
        what = "is no .parquet or .arrow file" if path.exists() else "is not there"
        raise DataNotFoundError(f"{KIND}: {printable(str(path))} {what}", hint=ADVICE)
    pa = arrow()
    try:
        with open_regular(path, most_bytes=TABLE_BYTES) as file:
            if path.suffix == ".parquet":
                return pa.parquet.read_table(pa.PythonFile(file, mode="r"))
            try:
                return pa.ipc.open_stream(pa.PythonFile(file, mode="r")).read_all()
            except pa.ArrowInvalid:
                file.seek(0)
                return pa.ipc.open_file(pa.PythonFile(file, mode="r")).read_all()
    except FileNotFoundError:
        raise DataNotFoundError(f"{KIND}: there is no file {printable(str(path))}", hint=ADVICE) from None
    except Exception as failure:
        why = getattr(failure, "strerror", None) or str(failure).splitlines()[0]
        raise _wrong(path, str(why)) from None


def _features(table: Any) -> Mapping[str, Any]:
    """Return what the library noted of the columns in a file; nothing where others wrote it."""
    noted = (table.schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(noted)["info"]["features"] if noted else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def survey(options: HuggingFaceOptions) -> tuple[str, ...]:
    """Return nothing.

    Raises:
        DataNotFoundError: a file is not there.
    """
    require_files(KIND, options.path, hint=ADVICE, folders=True)
    return require_files(KIND, options.test_path, hint=ADVICE)


COMPONENT = Component(
    kind=KIND,
    summary="a dataset of the library datasets: a folder of save_to_disk, or Parquet files; nothing is downloaded",
    source="https://huggingface.co/docs/datasets (the formats of save_to_disk and of its Parquet files)",
    options=HuggingFaceOptions,
    build=build,
    survey=survey,
)

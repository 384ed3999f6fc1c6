"""Texts of a user's own, `text`: a file, or a folder of files, as bytes or as tokens of a tokenizer's file.

Each file is cut into windows of `sequence_length` tokens that follow each other, and its last windows, a share of them,
are held out for the test unless `test_path` names other files. Each file is one natural owner. Where a folder holds
folders, each of these is a class: what `targets: class` learns, and what `dirichlet` and `shards` deal by.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neulite_sim.bounds import SampleCount
from neulite_sim.data.image_files import Sentences, is_hidden
from neulite_sim.data.numbers import Numbers
from neulite_sim.data.preparation import chosen_samples, require_samples
from neulite_sim.data.sequences import Ids, TextOptions, windows_dataset
from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError, UnknownComponentError
from neulite_sim.outside import TABLE_BYTES, printable, read_regular, user_path
from neulite_sim.registry import Component
from neulite_sim.scenario.inputs import InputFile, InputPath

KIND = "text"
BYTES = 256
INSTALL = "pip install 'neulite-sim[transformers]'"
_MOST_FILES = 10**6
_ADVICE = "data.path names a file of text, a folder of such files, or a folder of folders of them, one per class"


class TextFilesOptions(TextOptions):
    """Options of `text`."""

    path: InputPath
    """A file, a folder of files, or a folder of folders, one per class; beside the scenario's file or in the current
    folder."""
    test_path: InputPath | None = None
    """The same for the test; a share of each file of `path` is held out where it is not given."""
    test_share: float = Field(0.1, gt=0, lt=1)
    """Share of each file's sequences, its last ones, that is held out where `test_path` is not given."""
    tokenizer: InputFile | None = None
    """A tokenizer.json as the package tokenizers writes it (extra transformers); tokens are bytes where it is not
    given."""
    train_samples: SampleCount | None = None
    """A seeded subset of this many training sequences; all where it is not given."""
    test_samples: SampleCount | None = None
    """A seeded subset of this many test sequences; all where it is not given."""


@dataclass(frozen=True, slots=True)
class _Tokens:
    """How texts become ids, and how many there are."""

    vocabulary: int
    ids_of: Callable[[bytes, Path], Ids]


@dataclass(frozen=True, slots=True)
class _Part:
    """Windows of a part, with the file and the class of each."""

    windows: Ids
    files: NDArray[np.int64]
    classes: NDArray[np.int64]


def build(options: TextFilesOptions, seed: int) -> Numbers:
    """Return the sequences of the files, in the order of their names; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: a file is missing or cannot be read, or no file is long enough for a sequence.
        ScenarioError: classes are wanted and there are none, more samples are asked for than there are, or classes or
            characters of the test are none of the training's.
        UnknownComponentError: a tokenizer is given, and the package for it is not installed.
    """
    sentences = Sentences(KIND)
    tokens = _tokens(options.tokenizer)
    root = user_path(options.path).absolute()
    files = _files(root)
    classes = sorted({file.parent.name for file in files if file.parent != root and file != root})
    if options.targets == "class" and len(classes) < 2:
        finding = f"class needs a folder of at least two folders, one per class, and {root} holds {len(classes)}"
        raise ScenarioError([Problem.advising(key="data.targets", found=finding, hint="use next-token")])
    if options.test_path is None:
        train, test = _held_out(_read(files, root, classes, tokens, options, sentences), options.test_share)
    else:
        test_root = user_path(options.test_path).absolute()
        train = _read(files, root, classes, tokens, options, sentences)
        test = _read(_files(test_root), test_root, classes, tokens, options, sentences)
    for name, part in (("training", train), ("test", test)):
        if not len(part.windows):
            finding = f"{KIND}: {root} holds no {name} sequence of {options.sequence_length} tokens and the next"
            raise DataNotFoundError(finding, hint="lower data.sequence_length, or give more text")
    require_samples(KIND, options, train=len(train.windows), test=len(test.windows))
    kept = chosen_samples(len(train.windows), options.train_samples, seed, "train-samples")
    tested = chosen_samples(len(test.windows), options.test_samples, seed, "test-samples")
    return windows_dataset(
        KIND,
        train_windows=train.windows[kept],
        test_windows=test.windows[tested],
        vocabulary=tokens.vocabulary,
        targets=options.targets,
        train_classes=train.classes[kept] if classes else None,
        test_classes=test.classes[tested] if classes else None,
        num_classes=len(classes),
        groups=train.files[kept],
        left_out=tuple(sentences.told),
    )


def survey(options: TextFilesOptions) -> tuple[str, ...]:
    """Return nothing. Raises what `build` raises of the names of the files."""
    for path in filter(None, (options.path, options.test_path)):
        _files(user_path(path).absolute())
    return ()


def _files(root: Path) -> list[Path]:
    """Return a file, or the files of a folder and of the folders in it, by name; hidden ones are passed over."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataNotFoundError(f"{KIND}: {printable(str(root))} is not there", hint=_ADVICE)
    found: list[Path] = []
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not is_hidden(name)) if Path(folder) == root else []
        found += [Path(folder, name) for name in names if not is_hidden(name)]
        if len(found) > _MOST_FILES:
            raise DataNotFoundError(f"{KIND}: {root} holds more than {_MOST_FILES:,} files", hint="join some of them")
    if not found:
        raise DataNotFoundError(f"{KIND}: {printable(str(root))} holds no file", hint=_ADVICE)
    return sorted(found)


def _read(
    files: list[Path],
    root: Path,
    classes: list[str],
    tokens: _Tokens,
    options: TextFilesOptions,
    sentences: Sentences,
) -> _Part:
    numbers = {name: number for number, name in enumerate(classes)}
    length, pieces, owners, kinds, num_short = options.sequence_length, [], [], [], 0
    for number, file in enumerate(files):
        kind = numbers.get(file.parent.name, -1) if file.parent != root else -1
        if classes and kind < 0:
            finding = f"{KIND}: {printable(str(file))} is in no folder of a class ({', '.join(classes[:5])})"
            hint = "put each file into one of them"
            raise ScenarioError([Problem.advising(key="data.path", found=finding, hint=hint)])
        try:
            content = read_regular(file, most_bytes=TABLE_BYTES)
        except OSError as failure:
            found = f"{KIND}: {printable(str(file))} cannot be read ({failure.strerror or failure})"
            raise DataNotFoundError(found, hint=_ADVICE) from None
        ids = tokens.ids_of(content, file)
        count = (len(ids) - 1) // length if len(ids) else 0
        num_short += count < 1
        if count > 0:
            pieces.append(np.lib.stride_tricks.sliding_window_view(ids, length + 1)[: count * length : length])
            owners += [number] * count
            kinds += [kind] * count
    if num_short:
        who = "1 file is" if num_short == 1 else f"{num_short:,} files are"
        sentences.say(f"{who} shorter than a sequence of {length} tokens and the next, and left out")
    windows = np.concatenate(pieces) if pieces else np.empty((0, length + 1), np.uint8)
    return _Part(windows, np.array(owners, np.int64), np.array(kinds, np.int64))


def _held_out(part: _Part, share: float) -> tuple[_Part, _Part]:
    """Return the first windows of each file, and its last ones: a share, rounded up where there is more than one."""
    _, starts, counts = np.unique(part.files, return_index=True, return_counts=True)
    held = np.where(counts > 1, np.minimum(np.ceil(counts * share).astype(np.int64), counts - 1), 0)
    place = np.arange(len(part.files)) - np.repeat(starts, counts)
    is_test = place >= np.repeat(counts - held, counts)
    first, last = (
        _Part(part.windows[chosen], part.files[chosen], part.classes[chosen]) for chosen in (~is_test, is_test)
    )
    return first, last


def _tokens(tokenizer: str | None) -> _Tokens:
    if tokenizer is None:
        return _Tokens(BYTES, lambda content, file: np.frombuffer(content, np.uint8))
    if importlib.util.find_spec("tokenizers") is None:
        raise UnknownComponentError("data.tokenizer needs the package tokenizers", hint=INSTALL)
    path = user_path(tokenizer).absolute()
    known = _loaded(path)

    def ids_of(content: bytes, file: Path) -> Ids:
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as wrong:
            found = f"{KIND}: {printable(str(file))} is not text in UTF-8 (byte {wrong.object[wrong.start]:#04x})"
            raise DataNotFoundError(found, hint="give UTF-8, or leave out data.tokenizer") from None
        return np.array(known.encode(text, add_special_tokens=False).ids, np.int32)

    return _Tokens(known.get_vocab_size(), ids_of)


def _loaded(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(read_regular(path, most_bytes=TABLE_BYTES).decode("utf-8"))
    except OSError as failure:
        reason = failure.strerror or str(failure)
    # The package raises plain exceptions of its own.
    except Exception as failure:
        reason = str(failure).splitlines()[0]
    hint = "give the tokenizer.json of a model"
    raise ScenarioError(
        [Problem.advising(key="data.tokenizer", found=f"{printable(str(path))} is no tokenizer: {reason}", hint=hint)]
    )


COMPONENT = Component(
    kind=KIND,
    summary="your own texts: a file or a folder of files, as bytes or with a tokenizer's file",
    source="made here: data/text_files.py",
    options=TextFilesOptions,
    build=build,
    survey=survey,
)

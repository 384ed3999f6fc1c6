"""Shakespeare's plays by speaker, from LEAF's JSON files: 80 characters and the one that follows.

S. Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018, https://arxiv.org/abs/1812.01097; the speakers are
those of H. B. McMahan et al., AISTATS 2017. LEAF's `preprocess.sh` writes `train/*.json` and `test/*.json`; of each
speaker `x` holds texts of 80 characters, each one character further on than the one before, and `y` the character after
each. As a dataset of next tokens every character of such a text has its target; so of each speaker every 80th text is
taken, and no character is learned from 80 times. With `targets: class` the class is the one character `y`, as in LEAF.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neulite_sim.bounds import PathText, SampleCount, SequenceLength
from neulite_sim.data.image_files import Sentences, entries, is_hidden
from neulite_sim.data.leaf import lists_of, users_of
from neulite_sim.data.numbers import Numbers
from neulite_sim.data.preparation import chosen_samples, require_samples
from neulite_sim.data.sequences import TextOptions, windows_dataset
from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError
from neulite_sim.outside import TABLE_BYTES, plain_json, printable, read_regular, user_path
from neulite_sim.registry import Component
from neulite_sim.scenario.inputs import input_folder

KIND = "shakespeare"
ALPHABET = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
"""LEAF's characters (models/utils/language_utils.py); any other is one token more."""
VOCABULARY = len(ALPHABET) + 1
LENGTH = 80
ADVICE = (
    "data.root must hold train and test with the JSON files that LEAF writes (data/shakespeare/data of "
    "https://github.com/TalwalkarLab/leaf after ./preprocess.sh -s niid --sf 0.2 -k 0 -t sample)"
)
_NUMBER_OF = {character: number for number, character in enumerate(ALPHABET)}


class ShakespeareOptions(TextOptions):
    """Options of `shakespeare`."""

    root: Annotated[PathText, input_folder("train", "test")] = "data/shakespeare"
    """Folder of `train` and `test` with LEAF's JSON files; beside the scenario's file or in the current folder."""
    sequence_length: SequenceLength = LENGTH
    """Characters of a sequence: the last ones of each text, at most 80."""
    every: int | None = Field(None, ge=1, le=10**6)
    """Of each speaker every so many-th text is taken: `sequence_length` for next tokens, 1 for classes where it is not
    given."""
    train_samples: SampleCount | None = None
    """A seeded subset of this many training sequences; all where it is not given."""
    test_samples: SampleCount | None = None
    """A seeded subset of this many test sequences; all where it is not given."""


def build(options: ShakespeareOptions, seed: int) -> Numbers:
    """Return the sequences, `groups` being the speakers in the order of their names; `seed` acts only on subsets.

    Raises:
        DataNotFoundError: a folder or file is missing or not of LEAF's format.
        ScenarioError: longer sequences or more samples are asked for than there are.
    """
    if options.sequence_length > LENGTH:
        message = f"{options.sequence_length} is more than the {LENGTH} characters of a text; use 2 to {LENGTH}"
        raise ScenarioError([Problem(key="data.sequence_length", message=message)])
    root = user_path(options.root).absolute()
    sentences = Sentences(KIND)
    (train, speakers), (test, _) = (_part(root / part, options, sentences) for part in ("train", "test"))
    require_samples(KIND, options, train=len(train), test=len(test))
    kept = chosen_samples(len(train), options.train_samples, seed, "train-samples")
    tested = chosen_samples(len(test), options.test_samples, seed, "test-samples")
    classes = (train[kept, -1].astype(np.int64), test[tested, -1].astype(np.int64))
    return windows_dataset(
        KIND,
        train_windows=train[kept],
        test_windows=test[tested],
        vocabulary=VOCABULARY,
        targets=options.targets,
        train_classes=classes[0],
        test_classes=classes[1],
        num_classes=VOCABULARY,
        groups=speakers[kept],
        left_out=tuple(sentences.told),
    )


def survey(options: ShakespeareOptions) -> tuple[str, ...]:
    """Return nothing. Raises what `build` raises of the names of the files."""
    for part in ("train", "test"):
        _files(user_path(options.root).absolute() / part)
    return ()


def _files(folder: Path) -> list[Path]:
    places = entries(KIND, folder, ADVICE)
    files = [place for place in places if place.suffix == ".json" and not is_hidden(place.name)]
    if not files:
        raise DataNotFoundError(f"{KIND}: {folder} has no .json file", hint=ADVICE)
    return files


def _part(
    folder: Path, options: ShakespeareOptions, sentences: Sentences
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the windows and speakers of one part, by name of the speaker."""
    step = options.every or (options.sequence_length if options.targets == "next-token" else 1)
    by_speaker: dict[str, list[NDArray[np.uint8]]] = {}
    for file in _files(folder):
        for speaker, texts, following in _users(file):
            whole = [text + after for text, after in zip(texts[::step], following[::step], strict=True)]
            if whole:
                by_speaker.setdefault(speaker, []).append(_ids(whole)[:, -options.sequence_length - 1 :])
    if not by_speaker:
        raise DataNotFoundError(f"{KIND}: the files in {folder} hold no text", hint=ADVICE)
    pieces = [np.concatenate(by_speaker[speaker]) for speaker in sorted(by_speaker)]
    windows = np.concatenate(pieces)
    strange = int((windows == VOCABULARY - 1).sum())
    if strange:
        sentences.say(f"{strange:,} characters in {folder} are none of LEAF's {len(ALPHABET)}, all one token")
    return windows, np.repeat(np.arange(len(pieces)), list(map(len, pieces)))


def _ids(texts: list[str]) -> NDArray[np.uint8]:
    numbers = [_NUMBER_OF.get(character, VOCABULARY - 1) for text in texts for character in text]
    return np.array(numbers, np.uint8).reshape(len(texts), LENGTH + 1)


def _users(file: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    try:
        content = plain_json(read_regular(file, most_bytes=TABLE_BYTES))
        pieces = [(user, *lists_of(by_name), count) for user, by_name, count in users_of(content)]
        for user, texts, following, count in pieces:
            _require_texts(user, texts, following, count)
    except OSError as failure:
        raise DataNotFoundError(f"{KIND}: {file} cannot be read ({failure.strerror or failure})", hint=ADVICE) from None
    except ValueError as failure:
        reason = printable(str(failure))
        raise DataNotFoundError(f"{KIND}: {file} is not a file of LEAF's format: {reason}", hint=ADVICE) from None
    yield from ((user, texts, following) for user, texts, following, _ in pieces)


def _require_texts(user: str, texts: list[Any], following: list[Any], count: Any) -> None:
    if len(texts) != len(following) or count not in (None, len(texts)):
        stated = "" if count is None else f", and num_samples is {count!r:.40}"
        raise ValueError(f"{user!r:.60} has {len(texts)} texts in x and {len(following)} characters in y{stated}")
    for part, items, length in (("x", texts, LENGTH), ("y", following, 1)):
        for place, item in enumerate(items):
            if not isinstance(item, str) or len(item) != length:
                what = f"{len(item)} characters" if isinstance(item, str) else f"{item!r:.40}"
                raise ValueError(f"item {place} of {part} of {user!r:.60} is {what}, and {length} are needed")


COMPONENT = Component(
    kind=KIND,
    summary="Shakespeare's plays by speaker, 80 characters and the next one, from LEAF's JSON files",
    source="Caldas et al. (LEAF), 2018, https://arxiv.org/abs/1812.01097",
    options=ShakespeareOptions,
    build=build,
    survey=survey,
)

"""Texts made up from a seed: a lexicon, a grammar and authors with topics, so that there is something to be learned.

Every sentence is `determiner adjective noun verb determiner noun .` in an invented language of pronounceable words:

* the nouns and verbs are those of the sentence's topic, frequent ones more often than rare ones (Zipf, exponent 1);
* nouns are of two genders, and the determiner before a noun and the ending of the verb agree with it;
* half of the objects are the one that goes with the verb.

So a network learns letters and words first, then word order, then agreement over a distance, then topics. A sequence is
of one topic, drawn from those of its author, who are the natural owners; a topic is the class of a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neulite_sim.arrays import Integers
from neulite_sim.bounds import SampleCount
from neulite_sim.data.numbers import Numbers
from neulite_sim.data.sequences import Ids, TextOptions, windows_dataset
from neulite_sim.registry import Component
from neulite_sim.room import require_room
from neulite_sim.seeding import stream

ALPHABET = " .abcdefghijklmnopqrstuvwxyz"
_VOWELS, _CONSONANTS = "aeiou", "bcdfghjklmnprstvz"
_ENDINGS = ("n", "s")
"""Of a verb, by the gender of its subject."""
_NUM_ADJECTIVES = 24
_NUM_DETERMINERS = 3
"""Of each gender."""
_SHORTEST = 3
"""Characters of the shortest word with the space after it."""
_CHUNK = 4096
"""Sequences that are made at once; the result depends on it, as on everything that is drawn."""


class SyntheticTextOptions(TextOptions):
    """Options of `synthetic-text`."""

    samples: SampleCount = 4000
    """Number of training sequences."""
    test_samples: SampleCount = 500
    """Number of test sequences."""
    topics: int = Field(8, ge=2, le=1000)
    """Number of topics, which are the classes of sequences: `dirichlet` and `shards` deal by them."""
    authors: int = Field(100, ge=1, le=10**7)
    """Number of authors, who are the owners of partition `natural`."""
    words_per_topic: int = Field(40, ge=4, le=10_000)
    """Nouns of a topic; it has half as many verbs."""
    tokens: Literal["characters", "words"] = "characters"
    """What a token is: one of 28 characters, or a word."""

    def require_room(self) -> None:
        """Refuse sequences that this machine does not hold.

        Raises:
            ScenarioError: with the bytes needed and those that are free.
        """
        count = self.samples + self.test_samples
        require_room(
            count * (self.sequence_length + 1) * (1 if self.tokens == "characters" else 4),
            f"{count} sequences of {self.sequence_length} tokens",
            key="data.samples",
            advice="lower it, data.test_samples or data.sequence_length",
        )


@dataclass(frozen=True, slots=True)
class _Lexicon:
    """The words in order: full stop, determiners by gender, adjectives, then nouns and verbs by topic."""

    words: tuple[str, ...]
    num_topics: int
    num_nouns: int
    num_verbs: int

    @property
    def first_noun(self) -> int:
        return 1 + 2 * _NUM_DETERMINERS + _NUM_ADJECTIVES

    @property
    def first_verb(self) -> int:
        return self.first_noun + self.num_topics * self.num_nouns


def build(options: SyntheticTextOptions, seed: int) -> Numbers:
    """Return sequences made from `seed`; the training sequences do not depend on the number of test sequences."""
    options.require_room()
    lexicon = _lexicon(options, seed)
    mixtures = stream(seed, "synthetic-text-authors").dirichlet(np.full(options.topics, 0.5), options.authors)
    train, test = (
        _sequences(options, lexicon, mixtures, count, stream(seed, f"synthetic-text-{part}"))
        for part, count in (("train", options.samples), ("test", options.test_samples))
    )
    return windows_dataset(
        "synthetic-text",
        train_windows=train.windows,
        test_windows=test.windows,
        vocabulary=len(ALPHABET) if options.tokens == "characters" else len(lexicon.words),
        targets=options.targets,
        train_classes=train.topics,
        test_classes=test.topics,
        num_classes=options.topics,
        groups=train.authors,
    )


@dataclass(frozen=True, slots=True)
class _Sequences:
    windows: Ids
    topics: NDArray[np.int64]
    authors: NDArray[np.int64]


def _lexicon(options: SyntheticTextOptions, seed: int) -> _Lexicon:
    rng = stream(seed, "synthetic-text-lexicon")
    num_verbs = options.words_per_topic // 2
    known: set[str] = set()

    def word(syllables: int) -> str:
        while True:
            parts = (rng.choice(list(_CONSONANTS)) + rng.choice(list(_VOWELS)) for _ in range(syllables))
            made = "".join(parts)
            # With many topics the short words run out.
            if made not in known:
                known.add(made)
                return made
            syllables += int(rng.integers(2))

    determiners = [word(1) for _ in range(2 * _NUM_DETERMINERS)]
    adjectives = [word(2) for _ in range(_NUM_ADJECTIVES)]
    nouns = [word(int(rng.integers(2, 4))) for _ in range(options.topics * options.words_per_topic)]
    stems = [word(2) for _ in range(options.topics * num_verbs)]
    verbs = [stem + ending for stem in stems for ending in _ENDINGS]
    words = (".", *determiners, *adjectives, *nouns, *verbs)
    return _Lexicon(words, options.topics, options.words_per_topic, num_verbs)


def _sequences(
    options: SyntheticTextOptions,
    lexicon: _Lexicon,
    mixtures: NDArray[np.float64],
    count: int,
    rng: np.random.Generator,
) -> _Sequences:
    authors = rng.permutation(count).astype(np.int64) % options.authors
    levels = mixtures.cumsum(axis=1)[authors]
    topics = (rng.random((count, 1)) > levels[:, :-1]).sum(axis=1).astype(np.int64)
    length = options.sequence_length + 1
    is_spelled = options.tokens == "characters"
    windows = np.empty((count, length), np.uint8 if is_spelled else np.int32)
    num_words = -(-length // _SHORTEST) if is_spelled else length
    for start in range(0, count, _CHUNK):
        words = _words(lexicon, topics[start : start + _CHUNK], num_words, rng)
        windows[start : start + len(words)] = _spelled(lexicon, words, length) if is_spelled else words[:, :length]
    return _Sequences(windows, topics, authors)


def _words(lexicon: _Lexicon, topics: Integers, num_words: int, rng: np.random.Generator) -> Integers:
    """Return sentences of each sequence as numbers of words, at least `num_words` of them, begun at a random word."""
    slots = 7
    size = (len(topics), -(-(num_words + slots) // slots))
    nouns, objects = (_zipf(rng, size, lexicon.num_nouns) for _ in range(2))
    verbs = _zipf(rng, size, lexicon.num_verbs)
    # Twice as many nouns as verbs, so that each verb has an object of its own.
    objects = np.where(rng.random(size) < 0.5, 2 * verbs, objects)
    columns = (
        1 + (nouns % 2) * _NUM_DETERMINERS + rng.integers(0, _NUM_DETERMINERS, size),
        1 + 2 * _NUM_DETERMINERS + _zipf(rng, size, _NUM_ADJECTIVES),
        lexicon.first_noun + topics[:, None] * lexicon.num_nouns + nouns,
        lexicon.first_verb + (topics[:, None] * lexicon.num_verbs + verbs) * len(_ENDINGS) + nouns % 2,
        1 + (objects % 2) * _NUM_DETERMINERS + rng.integers(0, _NUM_DETERMINERS, size),
        lexicon.first_noun + topics[:, None] * lexicon.num_nouns + objects,
        np.zeros(size, np.int64),
    )
    words = np.stack(columns, axis=2).reshape(len(topics), -1)
    begins = rng.integers(0, slots, len(topics))
    found: Integers = words[np.arange(len(topics))[:, None], begins[:, None] + np.arange(num_words)]
    return found


def _zipf(rng: np.random.Generator, size: tuple[int, int], count: int) -> Integers:
    """Return numbers below `count`, number k as often as 1 / (k + 1)."""
    levels = np.cumsum(1 / np.arange(1, count + 1))
    found: Integers = np.searchsorted(levels / levels[-1], rng.random(size), side="right")
    return np.minimum(found, count - 1)


def _spelled(lexicon: _Lexicon, words: Integers, length: int) -> NDArray[np.uint8]:
    """Return the characters of each sequence of words, its first `length`; a full stop follows its word at once."""
    number_of = {letter: number for number, letter in enumerate(ALPHABET)}
    spelled = [[number_of[letter] for letter in f"{word} "] for word in lexicon.words]
    lengths = np.array(list(map(len, spelled)))
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    letters = np.array([number for word in spelled for number in word], np.uint8)
    ends = np.cumsum(lengths[words].ravel())
    begins = ends - lengths[words].ravel()
    places = np.arange(ends[-1]) - np.repeat(begins, lengths[words].ravel())
    text = letters[np.repeat(starts[words].ravel(), lengths[words].ravel()) + places]
    firsts = begins.reshape(words.shape)[:, 0]
    found: NDArray[np.uint8] = text[firsts[:, None] + np.arange(length)]
    return found


COMPONENT = Component(
    kind="synthetic-text",
    summary="texts made up from a seed by a small grammar: topics, authors, agreement; for next tokens or topics",
    source="made here, the default text: data/synthetic_text.py",
    options=SyntheticTextOptions,
    build=build,
)

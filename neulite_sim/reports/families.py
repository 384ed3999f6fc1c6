"""Which of some runs were computed from the same but for the seed, and why others of their scenario were not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neulite_sim.results.study import Other, Study, fixed_samples

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    """A run that began a family of its own beside one of the same scenario, and what it read otherwise."""

    place: int
    beside: int
    others: Sequence[Other]


class Families:
    """Runs by what they were computed from. Runs of one scenario that read other files are several families."""

    def __init__(self, studies: Sequence[Study]) -> None:
        fixed = fixed_samples(studies)
        tellers: list[dict[str, int]] = []
        by_text: dict[str, list[int]] = {}
        self.of: list[int] = []
        """The number of the family of each run."""
        self._splits: list[_Split] = []
        for place, study in enumerate(studies):
            known, reasons = by_text.setdefault(study.text, []), []
            for family in known:
                split = _split(place, studies, tellers[family].values(), fixed)
                if split is None:
                    break
                reasons.append(split)
            else:
                family = len(tellers)
                tellers.append({})
                known.append(family)
                self._splits += reasons[:1]
            # Of members that read the same, one tells whether another run did.
            tellers[family].setdefault(study.evidence, place)
            self.of.append(family)

    def notes(self, names: Sequence[str]) -> list[str]:
        """Return what has to be said of runs, by their names, that have the scenario of others and read other files."""
        return [
            f"{names[split.beside]} and {names[split.place]} have one scenario and are not of one study: "
            f"{_in_words(split.others)}."
            for split in self._splits
        ]


def _split(place: int, studies: Sequence[Study], beside: Iterable[int], fixed: frozenset[str]) -> _Split | None:
    """Return what keeps a run apart from one of others; None where nothing does."""
    for each in beside:
        if others := studies[each].others(studies[place], fixed=fixed):
            return _Split(place=place, beside=each, others=others)
    return None


def _in_words(others: Sequence[Other]) -> str:
    """Return what was another, each file once."""
    found: dict[tuple[str, bool], Other] = {}
    for other in others:
        found.setdefault((other.what, other.is_known), other)
    first = list(found.values())
    more = f"; and {len(first) - _MOST_NAMED} more" if len(first) > _MOST_NAMED else ""
    return "; ".join(map(str, first[:_MOST_NAMED])) + more


def unlike_section(studies: Sequence[Study], what: str, key: str) -> str:
    """Return in words that runs differ in a section of their scenarios, or in what its files held; "" where not."""
    # Options of one model are what a study may vary: other code under one name is another model.
    if key != "model" and len({_setup(study, key) for study in studies}) > 1:
        return what
    those = [study.only(key) for study in studies]
    found = [other for study in those[1:] for other in those[0].others(study) if other.is_known]
    return f"{what} ({found[0].what} held something else)" if found else ""


def _setup(study: Study, key: str) -> str:
    section = study.scenario.get(key)
    if key == "data" and isinstance(section, Mapping):
        # Where files lie says nothing about what is in them.
        section = {name: value for name, value in section.items() if name != "root"}
    return json.dumps(section, sort_keys=True)

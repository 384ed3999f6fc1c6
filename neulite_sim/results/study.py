"""What a run was computed from but for its seed: by that, and by no folder's name, runs belong together.

It is the scenario without the places of files, what these held (`inputs` in the provenance), and own code.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

_SEED, _FLOWER = "seed", "flower"
_PLACES = ("path", "beside")
PATH_OPTIONS = frozenset(
    {"hardware", "labels_path", "path", "root", "test_labels_path", "test_path", "tokenizer", "trace"}
)  # fmt: skip
"""Options that name files and folders: in runs of which no provenance tells what they held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A file, or own code, of which two runs of one scenario did not read the same, or nobody knows."""

    what: str
    """In words: the name of a file, or what code it is."""
    key: str
    """Where the scenario names it."""
    is_known: bool = True

    def __str__(self) -> str:
        why = "held something else" if self.is_known else "has no checksum of what it held"
        return f"{self.what} ({self.key}) {why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What a run was computed from. Two runs are of one study if `text` is equal and `others` finds nothing."""

    scenario: Mapping[str, Any]
    """Without its seed; of a path only its ending."""
    seed: Any
    places: Mapping[str, str]
    """Where the files and folders lay that it names, by dotted key."""
    contents: Mapping[str, Mapping[str, Any]]
    """What they held, and what own code was, by dotted key: SHA-256, sizes, parts; the `path` where nothing tells."""
    beside: Mapping[str, str]
    """The SHA-256 of files that own code imported from its folder, by key and name."""
    data_sha256: str | None = None
    """Of samples that own code gave: those of another seed may be others."""

    @property
    def text(self) -> str:
        """The scenario as a text to compare."""
        return json.dumps(self.scenario, sort_keys=True)

    @property
    def evidence(self) -> str:
        """All that `others` compares, but for the seed, as a text."""
        return json.dumps([self.contents, self.beside, self.data_sha256], sort_keys=True)

    def file(self, key: str) -> str | None:
        """Return the name of the file or folder that a key names; None of other keys."""
        place = self.places.get(key)
        return None if place is None else os.path.basename(place.rstrip(os.sep)) or place

    def only(self, key: str) -> Study:
        """Return it with what files held at or below a dotted key alone."""
        return self._with_files(lambda at: _is_below(at, key))

    def without(self, *keys: str) -> Study:
        """Return it without what stands at or below dotted keys of the scenario."""
        scenario = copy.deepcopy(dict(self.scenario))
        for key in keys:
            *way, last = key.split(".")
            node: Any = scenario
            for step in way:
                node = _child(node, step)
            if isinstance(node, dict):
                node.pop(last, None)
        kept = self._with_files(lambda at: not any(_is_below(at, key) for key in keys))
        return replace(kept, scenario=scenario)

    def others(self, other: Study, *, fixed: frozenset[str] = frozenset()) -> list[Other]:
        """Return which files or own code of a run of the same scenario were not those of this one.

        `fixed` are SHA-256 of samples of own code that do not go by the seed (`fixed_samples`).
        """
        found = [
            _other(key, self, other)
            for key in sorted({*self.contents, *other.contents})
            if self.contents.get(key) != other.contents.get(key)
        ]
        for at in sorted({*self.beside} & {*other.beside}):
            if self.beside[at] != other.beside[at]:
                key, _, name = at.partition(":")
                found.append(Other(what=f"{name}, which own code imports,", key=key))
        own, its = self.data_sha256, other.data_sha256
        if own is not None and its is not None and own != its and (self.seed == other.seed or {own, its} & fixed):
            found.append(Other(what="the samples of own code", key="data"))
        return found

    def _with_files(self, keeps: Callable[[str], bool]) -> Study:
        return replace(
            self,
            places={key: place for key, place in self.places.items() if keeps(key)},
            contents={key: held for key, held in self.contents.items() if keeps(key)},
            beside={at: sha256 for at, sha256 in self.beside.items() if keeps(at.partition(":")[0])},
            data_sha256=self.data_sha256 if keeps("data") else None,
        )


def study_of(scenario: Mapping[str, Any], made: Mapping[str, Any]) -> Study:
    """Return what a run was computed from: by its scenario, as plain values, and its provenance, of any version."""
    plain = copy.deepcopy({key: value for key, value in scenario.items() if key != _SEED})
    recorded = made.get("inputs")
    if not isinstance(recorded, Mapping):
        recorded = {key: {"path": path} for key, path in _paths(plain)}
    places: dict[str, str] = {}
    contents: dict[str, Mapping[str, Any]] = {}
    beside: dict[str, str] = {}
    for key, record in ((key, _mapping(record)) for key, record in recorded.items()):
        place = places[key] = str(record.get("path") or key)
        beside |= {f"{key}:{name}": str(sha256) for name, sha256 in _mapping(record.get("beside")).items()}
        is_known = "sha256" in record or "parts" in record
        contents[key] = {name: value for name, value in record.items() if name not in _PLACES} if is_known else {
            "path": place}  # fmt: skip
        _drop_place(plain, key, "" if "parts" in record else os.path.splitext(place)[1])
    data_sha256 = made.get("data_sha256")
    return Study(
        scenario=plain, seed=scenario.get(_SEED), places=places, contents={**contents, **_own_code(made)},
        beside=beside, data_sha256=data_sha256 if isinstance(data_sha256, str) else None,
    )  # fmt: skip


def _own_code(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return the SHA-256 of what a program registered, and of a Flower app with the values it was started with."""
    found: dict[str, Any] = {key: {"registered": sha256} for key, sha256 in _mapping(made.get("registered")).items()}
    app = _mapping(made.get("flower"))
    if app:
        found[_FLOWER] = {name: app.get(name) for name in ("sha256", "run_config")}
    return found


def fixed_samples(studies: Sequence[Study]) -> frozenset[str]:
    """Return the SHA-256 of samples that own code gave to several seeds alike: code that does not go by the seed."""
    seeds: dict[str, set[Any]] = {}
    for study in studies:
        if study.data_sha256 is not None:
            seeds.setdefault(study.data_sha256, set()).add(study.seed)
    return frozenset(sha256 for sha256, those in seeds.items() if len(those) > 1)


def not_told_apart(studies: Sequence[Study]) -> Iterator[str]:
    """Yield what nothing tells of the inputs of runs that count as one study."""
    if len(studies) < 2:
        return
    for key, held in studies[0].contents.items():
        name = studies[0].file(key)
        if "path" in held:
            yield f"no checksum tells what {name} ({key}) held, so whether all of these runs read the same is not known"
        if held.get("by") == "names and sizes" and len({study.places.get(key) for study in studies}) > 1:
            yield f"{name} ({key}) lay in several places, which were compared by the names and sizes of files"
    samples = [study.data_sha256 for study in studies if study.data_sha256 is not None]
    if len(set(samples)) > 1:
        yield "own code gave other samples to other seeds; whether by nothing but the seed is not known"


def _other(key: str, first: Study, other: Study) -> Other:
    """Return what of a key was another: a file, a file of a folder, or own code."""
    held, its = first.contents.get(key, {}), other.contents.get(key, {})
    if key == _FLOWER:
        return Other(what="the Flower app, or a value it was started with,", key=key)
    name = other.file(key) or first.file(key)
    if name is None:
        return Other(what="registered code or data", key=key)
    if "path" in held or "path" in its:
        return Other(what=name, key=key, is_known=False)
    parts, those = _mapping(held.get("parts")), _mapping(its.get("parts"))
    differing = sorted(part for part in {*parts, *those} if parts.get(part) != those.get(part))
    if not parts or not those or not differing:
        return Other(what=name, key=key)
    more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
    return Other(what=f"{os.path.join(name, differing[0])}{more}", key=key)


def _drop_place(plain: Any, key: str, ending: str) -> None:
    """Write its ending in the place of a path: the same file in another folder, or under another name, is the same."""
    *way, last = key.split(".")
    node = plain
    for step in way:
        node = _child(node, step)
    path = _child(node, last)
    if isinstance(path, str):
        kind, colon, _ = path.partition(":") if last == "kind" else ("", "", "")
        node[int(last) if isinstance(node, list) else last] = kind + colon + ending


def _child(node: Any, step: str) -> Any:
    if isinstance(node, list):
        return node[int(step)] if step.isdigit() and int(step) < len(node) else None
    return node.get(step) if isinstance(node, Mapping) else None


def _paths(node: Any, at: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ():
        way = f"{at}.{key}" if at else str(key)
        if isinstance(value, str) and key in PATH_OPTIONS:
            yield way, value
        else:
            yield from _paths(value, way)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_below(at: str, key: str) -> bool:
    return at == key or at.startswith(f"{key}.")

"""Which of several named arrays is which: `x_train`, `train_images`, `y_test`, `labels` and the like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from neulite_sim.data.handing import Handed, refusal
from neulite_sim.data.image_files import Sentences, listed
from neulite_sim.errors import close_matches

ROLES = ("train_inputs", "train_labels", "test_inputs", "test_labels", "groups")
_INPUTS = {"x", "inputs", "input", "images", "image", "data", "features", "samples"}
_LABELS = {"y", "labels", "label", "targets", "target", "classes"}
_GROUPS = {"group", "groups", "writers", "writer", "users", "user", "owners", "owner", "clients", "client"}
_PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}


def role_of(name: str) -> str | None:
    """Return which of `ROLES` a name plainly says, None where it says none."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    words = [word for word in re.split(r"[^a-z0-9]+", spaced) if word]
    glued = re.fullmatch(r"(?P<x>[xy])(?P<part>train|test)", "".join(words)) or re.fullmatch(
        r"(?P<part>train|test)(?P<x>[xy])", "".join(words)
    )
    if glued is not None:
        words = [glued["part"], glued["x"]]
    parts = [_PARTS[word] for word in words if word in _PARTS]
    rest = [word for word in words if word not in _PARTS]
    if len(parts) > 1 or len(rest) != 1:
        return None
    part, word = (parts or ["train"])[0], rest[0]
    if word in _GROUPS:
        return "groups" if part == "train" else None
    return f"{part}_inputs" if word in _INPUTS else f"{part}_labels" if word in _LABELS else None


def named(
    names: list[str], chosen: Mapping[str, str | None], sentences: Sentences, options: Mapping[str, str] = {}
) -> dict[str, str]:
    """Return the name of each role's array; what is in none is told to `sentences`.

    `chosen` are the names that options give, `options` what these are called where they are not called by the role.

    Raises:
        ScenarioError: a chosen name is not there, two names say one role, or inputs or labels are not to be found.
    """
    name, found = sentences.kind, {role: given for role, given in chosen.items() if given is not None}
    for role, given in found.items():
        if given not in names:
            near = close_matches(given, names)
            raise refusal(
                name,
                f"there is no array {given!r}{near}",
                f"there are {listed(names)}",
                key=f"data.{options.get(role, role)}",
            )
    for other in names:
        said = role_of(other)
        if said is None or other in found.values() or chosen.get(said) is not None:
            continue
        if said in found:
            hint = f"say which one with {options.get(said, said)}: NAME"
            raise refusal(name, f"{found[said]!r} and {other!r} may both be {said}", hint)
        found[said] = other
    missing = [role for role in ROLES[:2] if role not in found]
    if missing:
        hint = f"say which array it is with {options.get(missing[0], missing[0])}: NAME, of {listed(names)}"
        raise refusal(name, f"no name among the arrays says {missing[0]}", hint)
    if ("test_inputs" in found) != ("test_labels" in found):
        lone, lack = ("inputs", "labels") if "test_inputs" in found else ("labels", "inputs")
        hint = f"say which array they are with test_{lack}: NAME, of {listed(names)}"
        raise refusal(name, f"there are test {lone} and no test {lack}", hint)
    unused = [other for other in names if other not in found.values()]
    if unused:
        sentences.say(f"not read: {listed(unused)}")
    return found


def handed_of_names(
    arrays: Mapping[str, Any],
    chosen: Mapping[str, str | None],
    sentences: Sentences,
    options: Mapping[str, str],
) -> Handed:
    """Return what arrays by name hand over. Raises what `named` raises."""
    found = named(list(arrays), chosen, sentences, options)
    return Handed(**{role: arrays[name] for role, name in found.items()})

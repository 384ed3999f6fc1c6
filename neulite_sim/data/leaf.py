"""What LEAF's JSON files hold: users, and of each of them the lists `x` and `y`.

S. Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018, https://arxiv.org/abs/1812.01097. The files say what
they hold twice (`users` beside the keys of `user_data`, `num_samples` beside the lists); what contradicts itself is
refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def users_of(content: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the users, what `user_data` holds of each, and their number of samples where the file gives it.

    Raises:
        ValueError: the content contradicts itself or is something else.
    """
    if not isinstance(content, dict):
        raise ValueError(f"it holds no object with users and user_data but {_name_of(content)}")
    users, by_name = _member(content, "users", list), _member(content, "user_data", dict)
    counts = _member(content, "num_samples", list) if "num_samples" in content else [None] * len(users)
    if not all(isinstance(user, str) for user in users) or len(set(users)) < len(users):
        raise ValueError("users must be names, each once")
    if len(counts) != len(users):
        raise ValueError(f"num_samples has {len(counts)} numbers for {len(users)} users")
    if unknown := sorted(by_name.keys() ^ set(users)):
        raise ValueError(f"users and user_data differ in {len(unknown)} names, the first: {unknown[0]!r}")
    return ((user, by_name[user], count) for user, count in zip(users, counts, strict=True))


def lists_of(by_name: Any) -> tuple[list[Any], list[Any]]:
    """Return the lists `x` and `y` of a user.

    Raises:
        ValueError: there are none.
    """
    if not isinstance(by_name, dict):
        raise ValueError(f"a user has no x and y but {_name_of(by_name)}")
    return _member(by_name, "x", list), _member(by_name, "y", list)


def _member(content: Mapping[str, Any], key: str, kind: type) -> Any:
    if key not in content:
        raise ValueError(f"no {key!r}")
    if not isinstance(content[key], kind):
        raise ValueError(f"{key} must be {_NAMES[kind]}, found {_name_of(content[key])}")
    return content[key]


_NAMES = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def _name_of(value: Any) -> str:
    return _NAMES.get(type(value), "a number")

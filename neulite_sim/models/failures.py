"""Where and why a module of a user's failed: the first line of the reason, the submodule, and the user's own line."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from torch import nn

from neulite_sim.user_code.origins import is_users_file


@dataclass(frozen=True, slots=True)
class Failure:
    """The first line of what was said, the path of the innermost module at work, and the user's `file:line`, if any."""

    reason: str
    module: str = ""
    line: str = ""

    def __str__(self) -> str:
        place = ", ".join(filter(None, (self.module, self.line)))
        return f"{self.reason} ({place})" if place else self.reason


def failure_of(failure: BaseException, root: nn.Module | None = None) -> Failure:
    """Return the failure that an exception tells of; paths are those of modules below `root`."""
    paths = {} if root is None else {id(module): path for path, module in root.named_modules()}
    module = line = ""
    for frame, number in traceback.walk_tb(failure.__traceback__):
        held = frame.f_locals.get("self")
        if isinstance(held, nn.Module) and paths.get(id(held)):
            module = paths[id(held)]
        file = frame.f_code.co_filename
        if not file.startswith("<") and is_users_file(file):
            line = f"{file}:{number}"
    text = str(failure).strip().split("\n")[0] or type(failure).__name__
    return Failure(text, module, line)

"""The tools that runs are exported to: what each needs, where it keeps what it is given, how to look at it.

Nothing of a tool is imported before something is exported to it, and then with its switches against telemetry set.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neulite_sim.errors import NeuliteError, OutputError, Problem, ScenarioError, close_matches
from neulite_sim.exports.origin import Origin, read_origin
from neulite_sim.exports.places import Status, put_whole
from neulite_sim.results.stored import find_runs

EXPORTS = Path("exports")
"""Where exports go by default: `exports/TOOL`, beside `runs`."""


def _parquet(origin: Origin, place: Path) -> tuple[Status, Path]:
    from neulite_sim.exports.parquet_files import write_parquet

    return put_whole(place, "parquet", origin, write_parquet), place


def _tensorboard(origin: Origin, place: Path) -> tuple[Status, Path]:
    from neulite_sim.exports.event_files import write_events

    return put_whole(place, "tensorboard", origin, write_events), place


def _mlflow(origin: Origin, place: Path) -> tuple[Status, Path]:
    from neulite_sim.exports.mlflow_store import write_mlflow

    return write_mlflow(origin, place), place


def _wandb(origin: Origin, place: Path) -> tuple[Status, Path]:
    from neulite_sim.exports.wandb_files import write_wandb

    return write_wandb(origin, place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool: the module that shows whether it is installed, what to install, and how it takes a run.

    `put` writes a run into a place and returns what came of it, and where it is. `look` says how to look at a run that
    was exported, with `{}` for where it is, `look_at_all` the same of several and of what holds them. `variables`
    stand in the environment while the tool is at work.
    """

    name: str
    module: str
    package: str
    put: Callable[[Origin, Path], tuple[Status, Path]]
    look: str
    look_at_all: str
    has_store: bool = False
    """Whether one place takes many runs, rather than a folder each."""
    variables: Mapping[str, str] = field(default_factory=dict)


_MLFLOW_UI = "with MLflow's server: MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {}"
_NO_MLFLOW = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true", "DO_NOT_TRACK": "true"}
_NO_WANDB = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", "DO_NOT_TRACK": "true"}
TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            name="parquet", module="pyarrow", package="pyarrow", put=_parquet,
            look="read it with: pandas.read_parquet('{}/rounds.parquet')",
            look_at_all="read one with: pandas.read_parquet('{}/.../rounds.parquet')",
        ),
        Tool(
            name="tensorboard", module="tensorboard", package="tensorboard", put=_tensorboard,
            look="look at it with: tensorboard --logdir {}",
            look_at_all="look at them with: tensorboard --logdir {}",
        ),
        Tool(
            name="mlflow", module="mlflow", package="mlflow-skinny", put=_mlflow, has_store=True, variables=_NO_MLFLOW,
            look=f"look at it {_MLFLOW_UI}",
            look_at_all=f"look at them {_MLFLOW_UI}",
        ),
        Tool(
            name="wandb", module="wandb", package="wandb", put=_wandb, has_store=True, variables=_NO_WANDB,
            look="nothing was sent; what sends it: wandb sync {}",
            look_at_all="nothing was sent; what sends them: wandb sync {}/wandb/offline-run-*",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A run that was exported: from where, to where, and what came of it."""

    run: str
    run_dir: Path
    tool: str
    path: Path
    """The folder of the export, or the store that it is in."""
    status: Status
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        return {
            "run": self.run, "run_dir": str(self.run_dir), "to": self.tool, "path": str(self.path),
            "status": self.status, "remarks": list(self.remarks),
        }  # fmt: skip


def tool_named(name: str, *, option: str) -> Tool:
    """Return a tool that is installed; `option` is where its name was given.

    Raises:
        ScenarioError: there is no such tool.
        NeuliteError: its package is not installed; names the line that installs it.
    """
    if name not in TOOLS:
        found = f"{name!r} is no tool to export to{close_matches(name, TOOLS)}"
        hint = f"choose {', '.join(list(TOOLS)[:-1])} or {list(TOOLS)[-1]}"
        raise ScenarioError([Problem.advising(key=option, found=found.removesuffix("?"), hint=hint)])
    tool = TOOLS[name]
    if not is_installed(tool.module):
        line = f"python -m pip install {tool.package}"
        raise NeuliteError(
            f"{option} {name} needs {tool.package}, which is not installed", hint=f"install it with: {line}"
        )
    return tool


def is_installed(module: str) -> bool:
    """Whether a module can be imported, found without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:
        return False


def planned(paths: Sequence[Path], tool: Tool, out: Path | None = None) -> list[tuple[Path, Path]]:
    """Return each run folder, of those named or directly inside of a folder, and the place of its export.

    By default that is `exports/TOOL`. One run that is named itself goes straight into `out`, several into a folder
    each in it, called as their run folders; a store takes all of them.

    Raises:
        DataNotFoundError: a folder is no run folder and holds none.
    """
    folders = [folder for path in paths for folder in find_runs(path)]
    alone = len(paths) == 1 and folders == [Path(paths[0])]
    store = out or EXPORTS / tool.name
    is_place = tool.has_store or (out is not None and alone)
    return [(folder, store if is_place else store / folder.resolve().name) for folder in folders]


def export_run(run_dir: Path, tool: Tool, place: Path | None = None) -> Exported:
    """Export one run into a place, by default below `exports/TOOL`.

    Raises:
        DataNotFoundError: it is no run folder, or one of its files is damaged.
        OutputError: the export cannot be written, or something else is in its place.
    """
    if place is None:
        ((_, place),) = planned([run_dir], tool)
    with prepared(tool), _refusing(tool, place):
        origin = read_origin(run_dir)
        status, path = tool.put(origin, place)
    return Exported(
        run=origin.name, run_dir=run_dir, tool=tool.name, path=path, status=status, remarks=origin.remarks
    )  # fmt: skip


@contextlib.contextmanager
def prepared(tool: Tool) -> Iterator[None]:
    """Set a tool's switches, and keep its warnings to itself: they are about its own insides."""
    before = {name: os.environ.get(name) for name in tool.variables}
    os.environ.update(tool.variables)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _refusing(tool: Tool, store: Path) -> Iterator[None]:
    """Turn whatever a tool raises into what a user is told: why it could not take the run."""
    try:
        yield
    except NeuliteError:
        raise
    except ImportError as error:
        wish = f"install it anew with: python -m pip install --upgrade {tool.package}"
        raise NeuliteError(f"{tool.package} cannot be imported: {error}", hint=wish) from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
        wish = "choose another place with --out"
        raise OutputError(f"{store}: {tool.name} could not take the run: {reason}", hint=wish) from error

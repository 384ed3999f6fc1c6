"""A run as an offline run of Weights & Biases: metrics by round, the scenario as configuration, the summary.

`wandb` writes it into its own transaction log, which `wandb sync` uploads when somebody asks for it. Nothing is looked
up or sent here: no account, no statistics of this machine, no reports of errors.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import wandb

from neulite_sim.exports.origin import Origin, parameters
from neulite_sim.exports.places import MARK, Status, mark_in, set_mark
from neulite_sim.exports.words import outcomes_of


def write_wandb(origin: Origin, store: Path) -> tuple[Status, Path]:
    """Put a run into a folder of offline runs, and return whether it was there before, and its own folder.

    Raises:
        DataNotFoundError: a table is damaged.
    """
    earlier = [path.parent for path in sorted(store.glob(f"wandb/offline-run-*/{MARK}"))
               if mark_in(path.parent).get("identity") == origin.identity]  # fmt: skip
    for folder in earlier:
        if mark_in(folder).get("state") == origin.state:
            return "already there", folder
    store.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        dir=str(store),
        project=str(origin.run.summary.get("name") or origin.name),
        name=origin.name,
        id=origin.identity[:16],
        config={**parameters(origin.run.scenario), "neulite_sim": origin.tags},
        settings=_settings(),
    )
    folder = Path(run.dir).parent
    try:
        _fill(run, origin)
        run.finish()
    except BaseException:
        run.finish(exit_code=1)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    set_mark(folder, "wandb", origin, [])
    for old in earlier:
        if old != folder:
            shutil.rmtree(old)
    return ("renewed" if earlier else "written"), folder


def _settings() -> Any:
    return wandb.Settings(
        mode="offline", silent=True, console="off", disable_git=True, save_code=False, disable_job_creation=True,
        x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=True, x_save_requirements=False,
    )  # fmt: skip


def _fill(run: Any, origin: Origin) -> None:
    by_step: dict[int, dict[str, float]] = {}
    for step, at_s, values in origin.points():
        by_step.setdefault(step, {"_timestamp": at_s}).update(values)
    for step in sorted(by_step):
        run.log(by_step[step], step=step)
    run.summary.update(outcomes_of(origin.run.summary))

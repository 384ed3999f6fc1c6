"""The command line, one file per command.

Nothing heavy is imported before a command runs: the command files import what they need inside their functions, so
that `neulite-sim --help` answers at once.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from neulite_sim.cli.cache import cache
from neulite_sim.cli.calibrate import calibrate
from neulite_sim.cli.compare import compare
from neulite_sim.cli.components import components
from neulite_sim.cli.device import device
from neulite_sim.cli.export import export
from neulite_sim.cli.failures import answered
from neulite_sim.cli.flower import flower
from neulite_sim.cli.interruption import interruptible
from neulite_sim.cli.profile import profile
from neulite_sim.cli.report import report
from neulite_sim.cli.resume import resume
from neulite_sim.cli.run import run
from neulite_sim.cli.runs import runs
from neulite_sim.cli.schema import schema
from neulite_sim.cli.sweep import sweep
from neulite_sim.cli.timeline import timeline
from neulite_sim.cli.traces import TRACES
from neulite_sim.cli.validate import validate
from neulite_sim.cli.whatif import whatif
from neulite_sim.version import __version__

# Every command, in the order of `--help`; a new one is a function in a file of its own and a line here.
COMMANDS = (
    run,
    resume,
    validate,
    profile,
    whatif,
    sweep,
    runs,
    compare,
    report,
    timeline,
    device,
    export,
    flower,
    components,
    calibrate,
    schema,
    cache,
)

# Commands that stand below another word, such as `traces import`: what the word is about, and its commands by name.
COMMAND_GROUPS = {
    "traces": ("Turn foreign traces of availability, throughput and devices into tables for a scenario.", TRACES),
}


_MAY_BE_JSON = "neulite_sim.may_be_json"


class _Answering(TyperGroup):
    """Turns this package's exceptions into messages and exit codes, in the one place all commands pass through."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        may_be_json = "--json" in args
        with answered(may_be_json=may_be_json, is_whole=False):
            ctx = super().make_context(info_name, args, *rest, **extra)
        ctx.meta[_MAY_BE_JSON] = may_be_json
        return ctx

    def invoke(self, ctx: Any) -> Any:
        with answered(debug=bool(ctx.params.get("debug")), may_be_json=ctx.meta[_MAY_BE_JSON]), interruptible():
            return super().invoke(ctx)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"neulite-sim {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error that has no message of its own.")
    ] = False,
) -> None:
    """Simulate federated learning on devices that run out of memory.

    What would this method have cost, and learned, on that fleet of devices?
    """


app = typer.Typer(
    cls=_Answering,
    callback=_root,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in COMMANDS:
    app.command()(_command)
for _word, (_about, _members) in COMMAND_GROUPS.items():
    _group = typer.Typer(help=_about, no_args_is_help=True, rich_markup_mode=None)
    for _name, _member in _members.items():
        _group.command(_name)(_member)
    app.add_typer(_group, name=_word)


def main() -> None:
    """Run the command line; ends the process with the command's exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold bytes that are no text in any encoding.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="neulite-sim")

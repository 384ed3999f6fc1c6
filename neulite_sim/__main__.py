"""`python -m neulite_sim` and the command `neulite-sim`: signals are heeded before anything heavy is imported."""

from __future__ import annotations

import atexit
import gc
import sys

from neulite_sim import outlet
from neulite_sim.stopping import EXIT_CODE, INTERRUPTED, heed_signals


def main() -> None:
    """Run the command line; ends the process with the command's exit code, or with 130 where it was asked to stop.

    A command that did what was asked and could not print it ends with 2.
    """
    stopping = heed_signals()
    printed = outlet.guard()
    # As a process ends, Python looks all that is left through for cycles: for short commands a tenth of their time.
    atexit.register(gc.freeze)
    sys.unraisablehook = stopping.ask_again
    try:
        from neulite_sim.cli import main as command_line

        command_line()
    except BaseException as error:
        # A library whose import was broken off may have made an error of another kind of it.
        if stopping.is_asked and _is_untold(error):
            sys.stderr.write(f"{INTERRUPTED}\n")
            _answer_in_json()
            sys.exit(EXIT_CODE)
        if printed.is_lost() and isinstance(error, SystemExit) and not error.code:
            sys.exit(outlet.EXIT_CODE)
        raise
    finally:
        stopping.rest()
        # Python kills itself with SIGINT where an interruption left any code that was given to it as text: none did.
        exec("")


def _answer_in_json() -> None:
    """Print the object of `--json` where the command came to no answer of its own."""
    if "--json" in sys.argv[1:] and sys.stdout is not None:
        error = f'{{"kind": "{INTERRUPTED}", "message": "{INTERRUPTED}", "hint": ""}}'
        sys.stdout.write(f'{{"error": {error}}}\n')


def _is_untold(error: BaseException) -> bool:
    """Whether nobody has said yet that the command was interrupted: it was so outside of it, or between its parts."""
    if not isinstance(error, SystemExit):
        return True
    return isinstance(getattr(error.__context__, "__cause__", None), KeyboardInterrupt)


if __name__ == "__main__":
    main()

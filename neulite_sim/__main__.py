"""`python -m neulite_sim` and the command `neulite-sim`: signals are heeded before anything heavy is imported."""

from __future__ import annotations

import sys

from neulite_sim.stopping import EXIT_CODE, heed_signals


def main() -> None:
    """Run the command line; ends the process with the command's exit code, or with 130 where it was asked to stop."""
    stopping = heed_signals()
    try:
        from neulite_sim.cli import main as command_line

        command_line()
    except BaseException as error:
        # A library whose import was broken off may have made an error of another kind of it.
        if isinstance(error, SystemExit) or not stopping.is_asked:
            raise
        sys.stderr.write("interrupted\n")
        sys.exit(EXIT_CODE)
    finally:
        # What comes now ends by itself.
        stopping.is_asked = True


if __name__ == "__main__":
    main()

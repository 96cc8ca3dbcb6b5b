"""The `supsup` command: options and printing. The work is in `supsup_models.runs`."""

import sys


def main() -> None:
    """Entry point of the `supsup` command."""
    try:
        from supsup_models.cli.app import main as run  # a third of a second
    except KeyboardInterrupt:
        sys.stderr.write("supsup: interrupted\n")
        sys.exit(130)
    run()

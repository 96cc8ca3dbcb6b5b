"""The `supsup` command: options and printing only; the work is done in `supsup_models.runs` and `supsup_models.report`.

The command starts here, so that Ctrl-C while its modules are being imported is one line too.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the `supsup` command."""
    try:
        from supsup_models.cli.app import main as run  # a third of a second
    except KeyboardInterrupt:
        sys.stderr.write("supsup: interrupted\n")
        sys.exit(130)
    run()

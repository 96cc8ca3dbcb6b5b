"""The `supsup` command: options and printing only; the work is done in `supsup_models.runs` and `supsup_models.report`.

The command starts here, so that Ctrl-C while its modules are being imported is one line too.
"""

import sys

from supsup_models.cli.resuming import RESUMING

__all__ = ["main"]


def main() -> None:
    """Entry point of the `supsup` command."""
    try:
        from supsup_models.cli.app import main as run  # a third of a second
    except KeyboardInterrupt:
        goes_on = "; the same command goes on from what is finished" if sys.argv[1:] and sys.argv[1] in RESUMING else ""
        sys.stderr.write(f"supsup: interrupted{goes_on}\n")
        sys.exit(130)
    run()

"""What each `supsup` command does, one file a command, without its options (those are in `supsup_models.cli.app`)."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)

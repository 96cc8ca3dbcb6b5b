"""The `maskstore` command, and what both command lines share."""

from maskstore.cli.compile_notice import announced, announcing, warm
from maskstore.cli.console import nearest

__all__ = ["announced", "announcing", "console", "nearest", "warm"]

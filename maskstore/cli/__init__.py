"""The `maskstore` command, and what both command lines share."""

from maskstore.cli.compile_notice import announced, warm
from maskstore.cli.console import nearest

__all__ = ["announced", "console", "nearest", "warm"]

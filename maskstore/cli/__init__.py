"""The `maskstore` command, and what both command lines share."""

from maskstore.cli.app import main
from maskstore.cli.compile_notice import announced, announcing, warm

__all__ = ["announced", "announcing", "console", "main", "warm"]

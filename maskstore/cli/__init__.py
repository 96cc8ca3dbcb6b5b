"""The `maskstore` command, and what both command lines share."""

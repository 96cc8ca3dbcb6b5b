"""The associative memories, one file each."""

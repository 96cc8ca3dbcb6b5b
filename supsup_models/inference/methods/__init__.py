"""The inference methods, one file each."""

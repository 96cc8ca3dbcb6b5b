"""Data sets: one file each, found on the disk or downloaded."""

"""One training step, written several ways."""

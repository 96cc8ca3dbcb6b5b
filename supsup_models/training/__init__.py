"""Training: from scores to a mask."""

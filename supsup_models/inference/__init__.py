"""Which task do images belong to, and which label."""

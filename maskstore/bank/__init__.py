"""The bank file: masks, coded, in one crash-safe SQLite file."""

"""A mask in memory: its layers, its packed bits, many masks side by side. Needs numpy only."""

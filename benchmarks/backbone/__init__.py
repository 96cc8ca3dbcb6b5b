"""Tasks on a pretrained backbone: the ways people keep many of them, measured side by side."""

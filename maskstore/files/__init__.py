"""Files in general: replaced whole or not at all, strict JSON, safe .npz, names, varints. Knows no mask."""

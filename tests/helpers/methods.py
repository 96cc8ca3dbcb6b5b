"""The methods of task inference that need nothing but masks, whatever the network."""

from supsup_models.inference.infer import METHODS as ALL

METHODS = tuple(method for method in ALL if method != "prototypes")  # which are there on kept weights alone

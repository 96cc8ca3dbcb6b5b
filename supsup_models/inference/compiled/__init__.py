"""The hot loops of training in Numba, each beside its obvious numpy twin. Import a module where it is used, not before:
Numba takes a second to load."""

"""How masks come into a bank: one, or many together, of which nearly equal ones are coded against each other."""

from maskstore.bank.putting.many import PutsMany
from maskstore.bank.putting.near import NearMasks
from maskstore.bank.putting.new_mask import NewMask

__all__ = ["NearMasks", "NewMask", "PutsMany"]

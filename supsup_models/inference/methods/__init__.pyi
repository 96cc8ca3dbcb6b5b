from . import binary as binary
from . import exhaustive as exhaustive
from . import gradient as gradient
from . import one_shot as one_shot
from . import pairs as pairs
from . import prototypes as prototypes

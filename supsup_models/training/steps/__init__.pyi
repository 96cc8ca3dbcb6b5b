from .fused import Stepper as Stepper
from .fused import Stepping as Stepping
from .fused import fastest as fastest
from .fused import make_stepper as make_stepper
from .sparse import SparseStepper as SparseStepper
from .stacked import train_stacked as train_stacked

from .allocation import AllocationConfig as AllocationConfig
from .allocation import Allocator as Allocator
from .learner import IdentityFreeLearner as IdentityFreeLearner
from .learner import KnownMask as KnownMask
from .learner import PutAway as PutAway

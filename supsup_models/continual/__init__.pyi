from .allocation import AllocationConfig as AllocationConfig
from .allocation import Allocator as Allocator
from .allocation import Candidate as Candidate
from .allocation import mean_entropy as mean_entropy
from .learner import IdentityFreeLearner as IdentityFreeLearner
from .learner import KnownMask as KnownMask
from .learner import PutAway as PutAway

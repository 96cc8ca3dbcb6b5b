from .catalogue import EXPERIMENTS as EXPERIMENTS
from .experiment import Context as Context

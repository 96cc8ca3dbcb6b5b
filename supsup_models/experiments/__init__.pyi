from .catalogue import EXPERIMENTS as EXPERIMENTS
from .experiment import Context as Context
from .experiment import over_seeds as over_seeds

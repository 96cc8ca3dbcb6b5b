from .catalogue import EXPERIMENTS as EXPERIMENTS
from .experiment import Context as Context
from .experiment import write_json as write_json
from .names import EXPERIMENT_NAMES as EXPERIMENT_NAMES

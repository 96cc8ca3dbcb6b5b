from .catalogue import EXPERIMENTS as EXPERIMENTS
from .experiment import Context as Context
from .experiment import write_json as write_json

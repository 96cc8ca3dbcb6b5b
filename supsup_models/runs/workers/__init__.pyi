from .job import JudgedTask as JudgedTask
from .job import TrainingJob as TrainingJob
from .ray_executor import RayExecutor as RayExecutor
from .results import Executes as Executes
from .results import SharingExecutor as SharingExecutor
from .results import Workers as Workers
from .results import judged_tasks as judged_tasks

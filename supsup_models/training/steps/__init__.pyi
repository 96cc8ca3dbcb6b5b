from .base import Step as Step
from .base import Stepping as Stepping
from .make import fastest as fastest
from .make import make_step as make_step
from .outliers import Outliers as Outliers
from .outliers import composed as composed
from .outliers import shuffled as shuffled

from .gradient import descend as descend
from .gradient import descend_each as descend_each

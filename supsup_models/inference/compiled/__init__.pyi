from .passes import fits as fits
from .passes import mask_derivatives as mask_derivatives

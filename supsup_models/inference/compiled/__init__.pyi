from . import fits as fits

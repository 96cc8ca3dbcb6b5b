from .data_set import DataSet as DataSet
from .imagenet import ClassFolders as ClassFolders
from .imagenet import ImageFiles as ImageFiles
from .imagenet import find_imagenet as find_imagenet
from .load import load_data_set as load_data_set

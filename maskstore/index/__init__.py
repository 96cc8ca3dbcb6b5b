"""A memory index: the masks of a bank as a file that is mapped and asked where it lies, larger than memory or not."""

from maskstore.index.mapped import index_of, open_index
from maskstore.index.write import beside, write_index

__all__ = ["beside", "index_of", "open_index", "write_index"]

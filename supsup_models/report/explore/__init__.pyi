from .gather import Explored as Explored
from .gather import explored as explored
from .page import explorer_page as explorer_page
from .write import Explorer as Explorer
from .write import make_explorer as make_explorer

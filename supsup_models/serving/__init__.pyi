from .app import create_app as create_app
from .client import Client as Client
from .client import Prediction as Prediction
from .client import ServedTask as ServedTask
from .engine import Engine as Engine
from .limits import Limits as Limits
from .server import RunningServer as RunningServer
from .server import serve_http as serve_http

"""A server of masks over HTTP, and its client: one network in memory, thousands of tasks, each a mask.

`create_app` makes the web application of an `Engine`, `serve_http` runs it. `Client` needs neither torch nor a web
framework. The rest needs FastAPI, uvicorn and prometheus-client (extra `serve`). `docs/serving.md` is for users.
"""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)

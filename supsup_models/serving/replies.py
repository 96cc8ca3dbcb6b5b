"""Errors as clients get them: a status, the name of the error, and one line."""

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from maskstore.errors import MaskStoreError, TaskNotFoundError
from supsup_models.errors import RequestError, SupSupError


def error_response(error: Exception) -> JSONResponse:
    """An error as the status and the two fields that clients get."""
    headers = {"connection": "close"}  # what is left of the body is not read
    name, detail = type(error).__name__, str(error)
    if isinstance(error, HTTPException):
        status, name, detail = (
            error.status_code,
            "RequestError",
            f"request: expected a known path, found {error.detail}",
        )
        headers.update(error.headers or {})
    elif isinstance(error, RequestError):
        status = error.status
    elif isinstance(error, TaskNotFoundError):
        status = 404
    elif isinstance(error, SupSupError):
        status = 422
    elif isinstance(error, MaskStoreError):  # the masks cannot be read at the moment
        status = 503
    else:
        status, name, detail = 500, "InternalError", "server: expected an answer, found a fault of its own"
    if status == 503:
        headers["retry-after"] = "1"
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({"error": name, "detail": detail}, status, headers)

"""S3, Google Cloud Storage, Azure and plain HTTP through the package obstore."""

import os
from pathlib import Path
from typing import Any

from maskstore.errors import BankIOError, BankNotFoundError, BankReadOnlyError, needing, one_line
from maskstore.interop.shards.stores import TIMEOUT_SECONDS, Fetched, Store, TransientError

_CONNECT_SECONDS = 5.0


class ObjectStore(Store):
    """A prefix in an object store.

    Keys and endpoints come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL` and so on) or
    from `options`, which are obstore's configuration of the store.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        with needing("obstore", url):
            import obstore
            from obstore.store import from_url
        self.where, self._process, self._api = url.rstrip("/"), os.getpid(), obstore
        config = dict(options)
        endpoint = str(
            config.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
        )
        client = {"timeout": f"{TIMEOUT_SECONDS}s", "connect_timeout": f"{_CONNECT_SECONDS}s"}
        if url.startswith("http://") or endpoint.startswith("http://"):
            client["allow_http"] = "true"
        client |= config.pop("client_options", {})
        opened: Any = from_url  # its overloads, one a store, say what the types of options are
        self._writable = not url.startswith(("http://", "https://"))
        try:
            self._store = opened(
                self.where,
                config=config or None,
                client_options=client,
                retry_config={"max_retries": 0},  # requests are repeated, and counted, in one place
            )
        except Exception as error:  # unknown options, bad URLs
            raise BankIOError(f"{url}: expected a URL that obstore can open, found: {one_line(error)}") from None

    def get(self, name: str, start: int, stop: int) -> Fetched:
        """A range request."""
        self._check_process()
        try:
            answer = self._api.get(self._store, name, options={"range": (start, stop)})
            data = bytes(answer.bytes())
            version = {key: answer.meta[key] for key in ("e_tag", "version") if answer.meta.get(key) is not None}
            return Fetched(data, version)
        except Exception as error:
            raise self._fault(name, error) from error

    def put(self, name: str, path: Path) -> None:
        """An upload, in parts if it is large."""
        self._check_process()
        self._check_writable()
        try:
            self._api.put(self._store, name, path)
        except Exception as error:
            raise self._fault(name, error) from error

    def swap(self, name: str, data: bytes, version: Any) -> None:
        """A conditional put."""
        self._check_process()
        self._check_writable()
        errors = self._api.exceptions
        try:
            self._api.put(self._store, name, data, mode="create" if version is None else version, use_multipart=False)
        except (errors.AlreadyExistsError, errors.PreconditionError):
            raise self.conflict(name) from None
        except Exception as error:
            raise self._fault(name, error) from error

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise BankIOError(
                f"{self.where}: expected the process that opened it, found a fork, in which obstore does not work "
                '(start processes by spawn, or send the open set to them, or use `engine="fsspec"`)'
            )

    def _check_writable(self) -> None:
        if not self._writable:
            raise BankReadOnlyError(
                f"{self.where}: expected a store that takes objects, found plain HTTP, which is read only"
            )

    def _fault(self, name: str, error: Exception) -> Exception:
        errors = self._api.exceptions
        if isinstance(error, FileNotFoundError | errors.NotFoundError):
            return BankNotFoundError(f"{self.at(name)}: expected an object, found none")
        final = (PermissionError, errors.PermissionDeniedError, errors.UnauthenticatedError, errors.InvalidPathError)
        if isinstance(error, (*final, errors.NotSupportedError)):
            return BankIOError(f"{self.at(name)}: expected an answer, found: {one_line(error)}")
        return TransientError(one_line(error))

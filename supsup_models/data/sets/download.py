"""Downloading the files of a data set: checked before they are moved into place, so that no bad file is ever left."""

import http.client
import urllib.request
from pathlib import Path

from maskstore.errors import MaskStoreError
from maskstore.files import replacing
from supsup_models.data.sets.find import read_file, read_verified
from supsup_models.data.sets.mnist import IDX_FILES, IdxDataSet
from supsup_models.errors import DataFormatError, DataNotFoundError, DownloadError

_MAX_DOWNLOAD = 1 << 26  # 64 MiB, twice the largest file
_TIMEOUT = 30.0  # seconds without a byte


def download_files(wanted: IdxDataSet, folder: Path) -> Path:
    """Downloads what `folder` lacks of `wanted`'s four gzipped files, and returns `folder`.

    Each file's decompressed content is checked against its SHA-256 before the file is moved into place in one step.
    Raises `DownloadError` if no address gives a file with the right content, or it cannot be written.
    """
    for name in IDX_FILES:
        if not _is_there(wanted, folder, name):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _download_file(wanted, folder, name)
            except DownloadError:
                raise
            except (OSError, MaskStoreError) as error:
                reason = getattr(error, "strerror", None) or error
                raise DownloadError(
                    f"{folder}: cannot be written: expected a folder for data, found {reason!s}"
                ) from None
    return folder


def _is_there(wanted: IdxDataSet, folder: Path, name: str) -> bool:
    try:
        read_file(wanted, folder, name)
    except (DataFormatError, DataNotFoundError):  # a damaged file is fetched again
        return False
    return True


def _download_file(wanted: IdxDataSet, folder: Path, name: str) -> None:
    failures = []
    for base in wanted.urls:
        url = f"{base}{name}.gz"
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
                body = response.read(_MAX_DOWNLOAD + 1)
        except (OSError, http.client.HTTPException) as error:  # URLError and HTTPError are OSErrors
            failures.append(f"{url}: {error or type(error).__name__}")
            continue
        if len(body) > _MAX_DOWNLOAD:
            failures.append(f"{url}: expected at most {_MAX_DOWNLOAD} bytes, found more")
            continue
        failure = _keep_if_right(wanted, folder, name, body)
        if failure is None:
            return
        failures.append(f"{url}: {failure}")
    raise DownloadError(f"{wanted.title} cannot be downloaded: expected its files, found {'; '.join(failures)}")


def _keep_if_right(wanted: IdxDataSet, folder: Path, name: str, body: bytes) -> str | None:
    """Puts `body` in place as `name`.gz if its content has the hash; else says what is wrong with it."""
    try:
        with replacing(folder / f"{name}.gz", overwrite=True) as scratch:
            scratch.write_bytes(body)
            read_verified(wanted, scratch, name)
    except DataFormatError as error:
        return str(error).replace(str(scratch), "what came")
    return None

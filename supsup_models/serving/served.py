"""What is served: a network, a source of masks that may grow, and what a run knows of its images."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore import MaskBank, open_source
from maskstore.bank import MaskSource
from maskstore.errors import TaskNotFoundError
from maskstore.interop import ShardSet
from supsup_models.data import PixelScale, Views
from supsup_models.errors import ShapeError
from supsup_models.inference import Calibration
from supsup_models.networks import MaskedModel, MaskedNetwork, check_model
from supsup_models.runs import calibration_path, open_run, pixel_scale, read_calibration, record_path


class Served:
    """A network and its masks, opened from a run's folder, a bank, a shard or a URL.

    `close` closes the source. A source knows its masks by name only: no name of a request ever becomes a path.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        model: MaskedModel,
        source: MaskSource,
        *,
        pixels: PixelScale | None = None,
        views: Views | None = None,
        calibration: Path | None = None,
    ) -> None:
        model.check_takes_images()
        self.location, self.model, self.source = os.fspath(location), model, source
        self.pixels, self.views = pixels, views
        self._calibration_path = calibration
        self._calibration: tuple[object, Calibration | None] = (None, None)

    @classmethod
    def open(
        cls, location: str | os.PathLike[str], model: MaskedModel | None = None, *, immutable: bool = False
    ) -> "Served":
        """Open a run's folder, or what `open_source` takes; see `Engine`."""
        folder = Path(location)
        if "://" not in os.fspath(location) and record_path(folder).exists():
            record, model, bank = open_run(folder, model=model, immutable=immutable)
            trained = record.views
            views = None if trained is None else Views(trained.image_shape, trained.count)
            path = calibration_path(folder)
            return cls(location, model, bank, pixels=pixel_scale(record), views=views, calibration=path)
        if model is not None:
            check_model(model)
        source = open_source(location, immutable=immutable, backbone=None if model is None else model.coding_backbone())
        try:
            if model is not None:
                model.check_bank_meta(source.meta)
            return cls(location, MaskedNetwork.from_bank(source) if model is None else model, source)
        except BaseException:
            source.close()
            raise

    def close(self) -> None:
        """Close the source."""
        self.source.close()

    def signature(self) -> object:
        """What differs after the source has changed; None for a source that cannot change.

        Of a shard set, this looks for what was appended: one request.
        """
        if isinstance(self.source, ShardSet):
            self.source.refresh()
            return self.source.generation
        if not isinstance(self.source, MaskBank):
            return None
        path = os.fspath(self.source.path)
        return tuple(_stamp(path + end) for end in ("", "-wal"))

    def stamp(self, name: str) -> bytes:
        """What differs after a mask was replaced: its checksum; masks of a single shard never change.

        TaskNotFoundError if there is no such mask.
        """
        if isinstance(self.source, ShardSet):
            return self.source.checksum(name)
        if isinstance(self.source, MaskBank):
            return self.source.record(name).checksum
        if name not in self.source:
            raise TaskNotFoundError(f"task {name!r:.80}: expected one of {len(self.source)} tasks, found no such task")
        return b""

    def stamps(self) -> dict[str, bytes]:
        """`stamp` of all masks, as one look at the source finds them."""
        if isinstance(self.source, ShardSet | MaskBank):
            return self.source.checksums()
        return dict.fromkeys(self.source, b"")

    def calibration(self) -> Calibration | None:
        """The run's calibration as it is now, None if there is none."""
        if self._calibration_path is None:
            return None
        stamp = _stamp(os.fspath(self._calibration_path))
        if stamp != self._calibration[0]:
            self._calibration = stamp, None if stamp is None else read_calibration(self._calibration_path)
        return self._calibration[1]

    def flat(self, images: NDArray[np.generic], pixels: str | None) -> NDArray[np.generic]:
        """Images `(n, ...)` as rows `(n, inputs)`; ShapeError for images that `normalised` cannot take."""
        if images.ndim < 2 or not images.size:
            raise ShapeError(f"images: expected shape (n, {self.model.inputs}) with n >= 1, found {images.shape}")
        shape = self.model.image_shape or ()
        if images.ndim > 2 and len(shape) == 3 and images.shape[1:] not in (shape, shape[shape[0] == 1 :]):
            raise ShapeError(f"images: expected images of shape {shape}, channels first, found {images.shape[1:]}")
        rows = images.reshape(len(images), -1)
        if rows.shape[1] != self.model.inputs:
            raise ShapeError(f"images: expected {self.model.inputs} values an image, found {rows.shape[1]}")
        if self.pixels is None and (pixels not in (None, "normalised") or rows.dtype.kind != "f"):
            raise ShapeError(
                f"images: expected float pixels, normalised as in training, found {rows.dtype}; only a run's folder "
                "says how its images were normalised"
            )
        return rows

    def normalised(self, rows: NDArray[np.generic], pixels: str | None) -> NDArray[np.float32]:
        """Rows as the network takes them; ShapeError or ImageValueError for others."""
        if self.pixels is not None:
            return self.pixels.normalised(rows, pixels)[0]
        with np.errstate(over="ignore"):  # an infinite value is refused later, by the image that has it
            return rows.astype(np.float32, copy=False)


def _stamp(path: str) -> Any:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns

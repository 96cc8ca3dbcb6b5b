"""Pixels as a caller has them, as the network takes them: one rule for what values an image may have.

A network is trained on normalised pixels, `pixel * scale + shift`. Images come to it in one of three forms:

- "normalised", as the network takes them: floats as a task's `images` gives them;
- "unit", floats in [0, 1], as torchvision's `ToTensor` gives them;
- "raw", the levels of the data set: uint8 in 0..255 (in 0..16 for the digits).

Where the training images' normalisation is known, the form is told from the values or said by the caller, and what is
done is said in words. Values that fit no form are an ImageValueError. Where it is not known, raw pixels are refused
(`checks.checked_images`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supsup_models._names import check
from supsup_models.data.tasks import Levels
from supsup_models.errors import ImageValueError, ShapeError

PIXEL_FORMS = ("normalised", "unit", "raw")
_FAR = 10  # times the range of the training images: further out no image of theirs can be meant


@dataclass(frozen=True)
class PixelScale:
    """How the training images were normalised.

    Args:
        scale: What a stored pixel was multiplied by, one number for all pixels or one for each channel.
        shift: What was then added.
        std: The standard deviation of pixels in [0, 1] that they were divided by; None if it is not known.
    """

    scale: Levels
    shift: Levels
    std: Levels | None = None

    @property
    def levels(self) -> int | None:
        """The largest stored pixel: 255, or 16 for the digits. 1 stands for floats, which were taken as they came."""
        if self.std is None:
            return None
        return max(1, round(float((1.0 / (np.asarray(self.scale) * np.asarray(self.std))).max())))

    @property
    def span(self) -> tuple[float, float] | None:
        """The least and the largest normalised value of a training image, None where they are not known."""
        if self.levels is None or self.levels == 1:
            return None
        scale, shift = np.asarray(self.scale), np.asarray(self.shift)
        return float(shift.min()), float((self.levels * scale + shift).max())

    def normalised(self, images: NDArray[np.generic], form: str | None = None) -> tuple[NDArray[np.float32], str]:
        """Images as the network takes them, and one line that says what was done.

        Args:
            images: uint8 or float pixels, `(n, inputs)`, channel after channel.
            form: One of `PIXEL_FORMS`; by default told from the values.

        Raises:
            UnknownNameError: There is no such form.
            ShapeError: Pixels of another type, or of another number of channels.
            ImageValueError: The values cannot be meant for this network, or are not of that form.
        """
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            raise ShapeError(f"images: expected uint8 or float pixels, found {images.dtype}")
        if form is not None:
            check("form of pixels", form, PIXEL_FORMS)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused by name
            floats = images.astype(np.float32)
        finite = floats[np.isfinite(floats)]  # the others are refused by `checked_images`, which says in which image
        ends = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
        low, high = (float(end) + 0.0 for end in ends)  # -0.0 is written as 0
        found = f"{images.dtype} from {low:.4g} to {high:.4g}"
        told = self._form(images, low, high, found) if form is None else form
        if told == "normalised":
            if images.dtype == np.uint8:
                raise ImageValueError('images: expected float pixels with `pixels="normalised"`, found uint8')
            return floats, f"none: float pixels are taken as normalised already{self._outside(low, high)}"
        return self._scaled(floats, told, found, low, high, images.dtype == np.uint8)

    def _form(self, images: NDArray[np.generic], low: float, high: float, found: str) -> str:
        """The form that values can only be of. ImageValueError where there is none."""
        if images.dtype == np.uint8:
            if high == 1 and (self.levels or 0) > 1:
                raise ImageValueError(
                    f"images: expected uint8 pixels in 0 to {self.levels}, found none above 1; floats may be in "
                    '[0, 1], and `pixels="raw"` takes them all the same'
                )
            return "raw"
        if self.span is None:
            return "normalised"
        black, white = self.span
        reach = _FAR * (white - black)
        if low >= 0 > black:
            if high <= 1:
                return "unit"
            if high > white * 1.001:
                raise ImageValueError(
                    f"images: expected uint8 pixels, floats in [0, 1], or normalised floats of about {black:.2f} to "
                    f'{white:.2f}, found {found}; `pixels="raw"` takes floats of 0 to {self.levels}'
                )
        if low < black - reach or high > white + reach:
            raise ImageValueError(
                f"images: expected normalised pixels of about {black:.2f} to {white:.2f}, found {found}; "
                '`pixels="normalised"` takes them all the same'
            )
        return "normalised"

    def _outside(self, low: float, high: float) -> str:
        """A warning where normalised values leave the training images' range."""
        if self.span is None:
            return ""
        black, white = self.span
        slack = 0.01 * (white - black)
        if low >= black - slack and high <= white + slack:
            return ""
        return f"; they go from {low:.4g} to {high:.4g}, those of the training images from {black:.4g} to {white:.4g}"

    def _scaled(
        self, floats: NDArray[np.float32], form: str, found: str, low: float, high: float, bytes_: bool
    ) -> tuple[NDArray[np.float32], str]:
        """Raw or unit pixels, normalised like the training images."""
        levels = self.levels
        if levels == 1 and form == "raw":
            raise ImageValueError(
                f"images: expected floats like those that the network was trained on, found {found}; "
                "its training images were no uint8 pixels"
            )
        if form == "unit" and bytes_:
            raise ImageValueError(f'images: expected float pixels with `pixels="unit"`, found {found}')
        if form == "unit" and levels is None:
            raise ImageValueError(
                f"images: expected training images of a known `std` for pixels in [0, 1], found {found}"
            )
        most = 1 if form == "unit" else levels or 255
        if low < 0 or high > most:
            raise ImageValueError(f"images: expected {form} pixels in 0 to {most}, found {found}")
        scale, shift = (np.atleast_1d(np.asarray(each, np.float32)) for each in (self.scale, self.shift))
        if form == "unit":
            scale = scale * np.float32(levels)
        if floats.shape[1] % len(scale):
            raise ShapeError(f"images: expected {len(scale)} channels, found {floats.shape[1]} values an image")
        result = floats.reshape(len(floats), len(scale), -1) * scale[:, None] + shift[:, None]
        factors, terms = (", ".join(f"{level:.6g}" for level in each) for each in (scale, shift))
        which = "uint8 pixels" if bytes_ else f"float pixels in [0, {most}]"
        line = f"{which} are normalised like the training images: pixel * {factors} + {terms}"
        return result.reshape(floats.shape), line

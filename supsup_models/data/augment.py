"""The usual augmentation of small colour images: padded by four pixels, cropped at random, mirrored at random."""

from typing import final

import numpy as np
import torch
from torch import Tensor

from maskstore.philox import Role, random_uint32
from supsup_models.data.tasks import TaskImages, labelled_image

_PADDING = 4


@final
class Augmented:
    """A task's training images, changed each time they are served (He et al., CVPR 2016, section 4.2).

    Labels and the number of images stay. Padding is black. How the n-th batch is changed follows from the seed, the
    task's number and n; `to` gives a copy that counts from the start, so that training a task again serves the same.
    """

    def __init__(self, images: TaskImages, image_shape: tuple[int, int, int], *, seed: int, task: int) -> None:
        self._images = images
        self._shape = image_shape
        self._seed, self._task = seed, task
        self._served = 0
        self.inputs, self.scale, self.shift = images.inputs, images.scale, images.shift

    @property
    def labels(self) -> Tensor:
        """`(n,)` int64."""
        return self._images.labels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image `(inputs,)`, changed as a batch of its own, and its label."""
        return labelled_image(self, index)

    def __repr__(self) -> str:
        return f"Augmented({self._images!r})"

    def images(self, indices: Tensor | slice) -> Tensor:
        """The images at these indices, `(b, inputs)` float32, normalised, cropped and mirrored."""
        channels, height, width = self._shape
        plain = self._images.images(indices).view(-1, channels, height, width)
        drawn = random_uint32(self._seed, Role.AUGMENT, 3 * len(plain), layer=self._served, stream=self._task)
        self._served += 1
        draws = torch.from_numpy(drawn.reshape(3, -1).astype(np.int64)).to(plain.device)
        down, right = draws[:2] % (2 * _PADDING + 1)
        black = torch.tensor(self.shift, dtype=plain.dtype, device=plain.device).reshape(1, -1, 1, 1)  # normalised
        padded = black.expand(len(plain), channels, height + 2 * _PADDING, width + 2 * _PADDING).clone()
        padded[:, :, _PADDING:-_PADDING, _PADDING:-_PADDING] = plain
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (b, channels, 9, 9, height, width), a view
        cropped = windows[torch.arange(len(plain), device=plain.device), :, down, right]
        mirrored = torch.where((draws[2] % 2 == 1).view(-1, 1, 1, 1), cropped.flip(3), cropped)
        return mirrored.reshape(len(plain), self.inputs)

    def to(self, device: torch.device) -> "Augmented":
        """The same images on a device, served from the start."""
        return Augmented(self._images.to(device), self._shape, seed=self._seed, task=self._task)

"""Views of one image: turned, and mirrored. A network that names the view knows its images better.

In training, view v of an image of class c has the label `v * classes + c`. So a network of `classes` real outputs needs
`views.count * classes` outputs. View 0 is the image as it is, with the label that it has. To say how an image is
turned, a network must know what its own images look like. Its answers to images of another task are far less certain.

Source: Golan and El-Yaniv, "Deep anomaly detection using geometric transformations", NeurIPS 2018; Kim et al., "A
theoretical study on solving continual learning", NeurIPS 2022, name turned images as classes of their own, too.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import final

import numpy as np
import torch
from torch import Tensor

from maskstore.philox import Role, random_uint32
from supsup_models.data.transforms import check_square, checked_image_shape, checked_view_count, turn_order


@final
@dataclass(frozen=True)
class Views:
    """The views of an image: itself, its four quarter turns, or with the mirrored image's eight.

    Args:
        image_shape: Channels, height and width; square images.
        count: How many views: 1, 4 or 8.

    Raises:
        NetworkError: There are not so many.
        ShapeError: The images are no squares.

    Examples:
        >>> import torch
        >>> from supsup_models import Views
        >>> views = Views((1, 2, 2), 4)
        >>> views(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))[:, 0].tolist()
        [[1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 1.0, 3.0], [4.0, 3.0, 2.0, 1.0], [3.0, 1.0, 4.0, 2.0]]
    """

    image_shape: tuple[int, ...]
    count: int = 8

    def __post_init__(self) -> None:
        checked_view_count(self.count)
        check_square(checked_image_shape("views", self.image_shape))

    @property
    def inputs(self) -> int:
        """Values of an image."""
        return prod(self.image_shape)

    @cached_property
    def orders(self) -> Tensor:
        """`(count, inputs)` int64: which value of the image comes where in each view; view 0 is the image as it is."""
        turns = [turn_order(self.image_shape, v % 4, mirrored=v >= 4) for v in range(self.count)]
        return torch.from_numpy(np.stack(turns))

    def __call__(self, images: Tensor) -> Tensor:
        """All views of images: `(b, inputs)` -> `(count, b, inputs)`."""
        return torch.stack([images[:, order.to(images.device)] for order in self.orders])

    def drawn(
        self, images: Tensor, labels: Tensor, *, classes: int, share: float, seed: int, task: int, step: int
    ) -> tuple[Tensor, Tensor]:
        """Images for training, with views of the same images, drawn by the seed, after them.

        Args:
            images: `(b, inputs)`, of which the first are shown in another view once, and again from the first.
            labels: `(b,)`, in `range(classes)`.
            classes: How many real outputs the network has.
            share: How many views are drawn for each image.
            seed: What the views follow from, with the task's number and the step's.
            task: The task's number.
            step: The step's number.

        Returns:
            Images and labels; the first b are those that were given.
        """
        count = max(1, round(share * len(labels)))
        words = random_uint32(seed, Role.VIEW, count, layer=step % (1 << 24), stream=task)
        views = torch.from_numpy(1 + words.astype(np.int64) % (self.count - 1)).to(images.device)
        chosen = torch.arange(count, device=images.device) % len(labels)
        turned = images[chosen].gather(1, self.orders.to(images.device)[views])
        return torch.cat([images, turned]), torch.cat([labels, labels[chosen] + classes * views])

"""What task inference answers: the task of a batch, or of each image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Guess:
    """The task that a batch of images belongs to, as inferred from the images alone.

    Attributes:
        task: The row of the matrix whose mask is preferred; `matrix.names[guess.task]` is the task's name.
        scores: How much each mask is preferred, `(k,)` float32; higher is more likely, and `task` is the argmax. The
            scale depends on the method. One-shot: minus dL/dalpha. Exhaustive: minus the cost. Pairs: the log
            probability of the best class. Prototypes: minus the squared distance to the nearest one. Binary: the number
            of rounds that a mask survived, plus its rank among those dropped with it as a fraction below 1. Gradient:
            the logarithm of alpha, up to a constant. Short-list: as one-shot; in `Guesses`, -inf where a mask was not
            on an image's list.
        confidence: With a calibration, the fraction of the task's own images that look less like it, in (0, 1]. Below
            0.01 the images are most likely of none of these tasks. None without a calibration.

    Examples:
        >>> from maskstore import MaskMatrix
        >>> from supsup_models import MaskedNetwork, Recipe, RMSProp, infer_task, open_stream, train_task
        >>> stream = open_stream("permuted-digits", tasks=2)
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0)
        >>> matrix, recipe = MaskMatrix(model.spec), Recipe("quick", RMSProp(4e-4))
        >>> for task in stream:
        ...     one = train_task(model, task.train, recipe, task=task.index, steps=30)
        ...     matrix.append(task.name, one.mask)
        >>> guess = infer_task(model, matrix, stream[1].test.images(slice(0, 16)))
        >>> guess.task, guess.scores.shape, guess.confidence
        (1, (2,), None)
        >>> best_first = guess.scores.argsort()[::-1]
        >>> [matrix.names[row] for row in best_first]
        ['task-1', 'task-0']
    """

    task: int
    scores: NDArray[np.float32]
    confidence: float | None = None


@dataclass(frozen=True)
class Guesses:
    """The tasks that images belong to, one for each image.

    Attributes:
        tasks: Rows of the matrix, `(b,)` int64.
        scores: How much each mask is preferred for each image, `(b, k)` float32, on the scales of `Guess`.
        confidence: With a calibration, the confidence of each image's task, `(b,)` float32, as in `Guess`.

    Examples:
        >>> import torch
        >>> from maskstore import MaskMatrix
        >>> from supsup_models import MaskedNetwork, Recipe, RMSProp, infer_each, open_stream, train_task
        >>> stream = open_stream("permuted-digits", tasks=2)
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0)
        >>> matrix, recipe = MaskMatrix(model.spec), Recipe("quick", RMSProp(4e-4))
        >>> for task in stream:
        ...     one = train_task(model, task.train, recipe, task=task.index, steps=30)
        ...     matrix.append(task.name, one.mask)
        >>> images = torch.cat([task.test.images(slice(0, 50)) for task in stream])
        >>> guesses = infer_each(model, matrix, images)
        >>> guesses.tasks.shape, guesses.scores.shape
        ((100,), (100, 2))
        >>> right = (guesses.tasks[:50] == 0).sum() + (guesses.tasks[50:] == 1).sum()
        >>> bool(right > 90)
        True
    """

    tasks: NDArray[np.int64]
    scores: NDArray[np.float32]
    confidence: NDArray[np.float32] | None = None

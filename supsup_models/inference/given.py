"""What a caller passes to inference, checked by name before anything is computed."""

from collections.abc import Mapping, Sequence
from typing import Any

from maskstore import MaskMatrix
from maskstore.bank import MaskSource
from supsup_models._names import expect, found
from supsup_models.data import TaskStream, Views
from supsup_models.errors import ArgumentTypeError, InferenceError, ShapeError
from supsup_models.networks import MaskedModel, TaskExtras, check_model


def check_masks(model: MaskedModel, matrix: MaskMatrix, extras: TaskExtras) -> None:
    """ArgumentTypeError for arguments of other types; ShapeError for masks of other layers than the network's."""
    check_model(model)
    bank = "bank.matrix() makes one"
    expect("matrix", matrix, MaskMatrix, "a MaskMatrix", MaskBank=bank, ShardReader=bank)
    check_extras(extras)
    check_spec(model, matrix)


def check_spec(model: MaskedModel, masks: MaskMatrix | MaskSource) -> None:
    """ShapeError for masks of other layers than the network's, BackboneError for a source of masks on other weights."""
    if masks.spec != model.spec:
        raise ShapeError(f"masks: expected the layers of {model.spec!r}, found {masks.spec!r}")
    if isinstance(masks, MaskSource):
        model.check_bank_meta(masks.meta)


def check_extras(extras: Any) -> None:
    """ArgumentTypeError for what are no extras of tasks, by the tasks' names."""
    expect("extras", extras, Mapping, "a dict by the masks' names")
    for name, own in extras.items():
        if own is not None and not isinstance(own, Mapping):
            raise ArgumentTypeError(f"extras of {name!r:.80}: expected a dict of arrays, found {found(own)}")


def check_views(model: MaskedModel, views: Any) -> None:
    """ArgumentTypeError, ShapeError or InferenceError for views that are none, or none of a network's images."""
    expect("views", views, Views, "Views", int="Views(image_shape, count) makes some")
    if views.inputs != model.inputs:
        raise ShapeError(f"views: expected images of {model.inputs} values, found shape {views.image_shape}")
    if views.count * model.classes > model.outputs:
        raise InferenceError(
            f"views: expected an output for each of {model.classes} classes in {views.count} views, found "
            f"{model.outputs} outputs"
        )


def check_tasks(tasks: Any) -> None:
    """ArgumentTypeError for what is no stream and no sequence of tasks."""
    expect("tasks", tasks, Sequence, "a stream or a list of tasks", Task="[task] is a list of one")
    for number, task in enumerate(() if isinstance(tasks, TaskStream) else tasks):
        if not all(hasattr(task, name) for name in ("name", "test")):
            raise ArgumentTypeError(
                f"tasks: expected tasks with a name and test images, found {found(task)} at {number}"
            )

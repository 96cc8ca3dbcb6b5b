"""`--backbone`: the weights of a network, for commands that decode masks coded against them."""

from pathlib import Path
from typing import Annotated

import typer

from maskstore import interop
from maskstore.priors import Backbone

BackboneFile = Annotated[
    Path | None,
    typer.Option("--backbone", metavar="FILE.safetensors", show_default=False,
                 help="The network's weights, for masks that were coded against them."),
]  # fmt: skip


def backbone_for(source: str | Path, file: Path | None, *, immutable: bool = False) -> Backbone | None:
    """The weights of a source's layers out of a file; None without one."""
    if file is None:
        return None
    with interop.open_source(source, immutable=immutable) as opened:
        spec = opened.spec
    return interop.read_backbone(file, spec)

"""`supsup explore`: the page of a run, written whole or not at all."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskstore.files import replacing
from supsup_models._names import path_of
from supsup_models._progress import Reporter, Reporting
from supsup_models.errors import RunError
from supsup_models.inference import Inference
from supsup_models.report.explore.gather import Explored, explored
from supsup_models.report.explore.page import GENERATOR, explorer_page
from supsup_models.report.place import check_place
from supsup_models.runs import RunRecord, load_run, seed_folders

if TYPE_CHECKING:
    from supsup_models.runs import Run

IMAGES = 60


@dataclass(frozen=True)
class Explorer:
    """What was written where."""

    path: Path
    shown: Explored

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; the keys are part of the interface."""
        return {
            "page": str(self.path),
            "masks": len(self.shown.names),
            "images": len(self.shown.images),
            "method": self.shown.method,
            "objective": self.shown.objective,
            "tasks_found": self.shown.found,
            "pictures": len(self.shown.pictures),
        }


def make_explorer(
    folder: "str | Path | Run",
    out: str | Path | None = None,
    *,
    inference: Inference = Inference(),
    images: int = IMAGES,
    data: Path | None = None,
    download: bool = False,
    device: str = "auto",
    immutable: bool = False,
    overwrite: bool = False,
    reporter: Reporting = Reporter,
) -> Explorer:
    """Write a page to look into a run with, to `out`, or to `explore.html` in the run's folder.

    On it one picks a test image, and sees the scores of all masks, the entropy and the labels under each, which tasks
    are taken for which, and each mask: its layers as pictures, and the bits that it takes. It needs no network.

    Args:
        folder: A run's folder, or a `Run`, which brings its own data.
        out: The page. An earlier one is replaced, any other file only with `overwrite`.
        inference: How tasks are inferred; each image is an inference of its own, whatever its `images` says.
        images: Test images shown, as many of each task as of any other; 1 to 400.
        data: Where the data set's files are; the usual places if not given.
        download: Fetch them if they are not there.
        device: "auto", "cpu" or "cuda".
        immutable: Read the bank as it lies there, as `MaskBank.open` does.
        overwrite: Replace a file that is no such page.
        reporter: Shows the progress.

    Returns:
        Where the page is, and what it shows.

    Raises:
        ReportError: A file would be lost, or there is no folder to write into.
        RunError: A folder without a run, without a finished mask, or with several seeds.
        InferenceError: No image, or more than 400.
        DataNotFoundError: The data set is nowhere to be found.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from supsup_models import run_config, train_run
        >>> from supsup_models.report.explore import make_explorer
        >>> config = run_config("permuted-digits", tasks=2, outputs=40, batches=10, recipe="dense")
        >>> with TemporaryDirectory() as folder:
        ...     _ = train_run(config, Path(folder))
        ...     made = make_explorer(Path(folder), images=4)
        ...     made.path.name, len(made.shown.images)
        ('explore.html', 4)
    """
    run = None if isinstance(folder, str | PathLike) or not hasattr(folder, "loaded") else folder
    folder = path_of("folder", folder if run is None else run.folder)
    out = folder / "explore.html" if out is None else path_of("out", out)
    if seeds := seed_folders(folder):
        raise RunError(
            f"{folder}: expected one run, found {len(seeds)} seeds; explore one of them, such as {seeds[min(seeds)]}"
        )
    RunRecord.read(folder)  # a folder without a run is named before what is wrong with a place inside it
    check_place(folder, out, overwrite, GENERATOR, "page of `supsup explore`")
    loaded = load_run(folder, device, immutable=immutable) if run is None else run.loaded
    stream = loaded.stream(data, download)
    shown = explored(loaded, stream, inference, images, immutable=immutable, reporter=reporter)
    with replacing(out, overwrite=True) as scratch:
        scratch.write_text(explorer_page(shown), encoding="utf-8", newline="\n")
    return Explorer(out, shown)

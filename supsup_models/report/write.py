"""`supsup report`: one self-contained page about a run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskstore.files import replacing
from supsup_models._names import path_of
from supsup_models._progress import Reporter, Reporting
from supsup_models.report.compare import Compared, read_comparisons
from supsup_models.report.facts import RunFacts, read_run
from supsup_models.report.judged import Judged, NoData
from supsup_models.report.page import GENERATOR, Page, render
from supsup_models.report.place import check_place
from supsup_models.report.recovery import read_recovery
from supsup_models.runs import RunRecord, seed_folders

if TYPE_CHECKING:
    from supsup_models.inference import Inference
    from supsup_models.runs import Run


@dataclass(frozen=True)
class Report:
    """What was written where, and why it has no figures of inference if it has none."""

    path: Path
    facts: RunFacts = field(repr=False)
    page: Page = field(repr=False)
    judged: Judged | NoData | None = field(repr=False)

    @property
    def no_images(self) -> str | None:
        """Why no test images were looked at although they were wanted."""
        return self.judged.reason if isinstance(self.judged, NoData) else None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; the keys are part of the interface."""
        judged = self.judged if isinstance(self.judged, Judged) else None
        return {
            "report": str(self.path),
            "run": self.facts.name,
            "finished": self.facts.finished,
            "tasks": len(self.facts.tasks),
            "accuracy": self.facts.accuracy,
            "bits_per_parameter": self.facts.bits_per_parameter,
            "seeds": [asdict(each) for each in self.facts.seeds],
            "scenario": judged.last.scenario if judged else None,
            "inferred_accuracy": judged.last.accuracy if judged else None,
            "given_accuracy": judged.last.given_accuracy if judged else None,
            "task_accuracy": judged.last.task_accuracy if judged else None,
            "figures": list(self.page.drawn),
            "missing": list(self.page.missing),
            "no_images": self.no_images,
        }


def make_report(
    folder: "str | Path | Run",
    out: str | Path | None = None,
    *,
    inference: "Inference | None" = None,
    limit: int | None = None,
    recovery: Path | None = None,
    compare: Sequence[Path] = (),
    data: Path | None = None,
    download: bool = False,
    device: str = "auto",
    immutable: bool = False,
    overwrite: bool = False,
    reporter: Reporting = Reporter,
) -> Report:
    """Write the page of a run, finished or not, to `out`, or to `report.html` in the run's folder.

    An earlier report there is replaced, any other file only with `overwrite`. Of a folder, no test image is looked at
    without `inference`; of a `Run`, its own test images are, by default as `Inference()` says; with a `limit` of 0 none
    is. `immutable` banks are read as they lie there, since nobody writes to them. Raises ReportError for a file that
    would be lost and for input of another kind, RunError for a folder without a run, and what `judge_run` raises.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from supsup_models.report import make_report
        >>> from supsup_models import run_config, train_run
        >>> config = run_config("permuted-digits", tasks=1, outputs=40, batches=10, recipe="dense")
        >>> with TemporaryDirectory() as folder:
        ...     _ = train_run(config, Path(folder))
        ...     made = make_report(Path(folder), Path(folder) / "report.html")
        >>> made.page.drawn
        ('accuracy', 'training', 'storage', 'growth', 'pareto', 'density')
    """
    run = None if isinstance(folder, str | PathLike) or not hasattr(folder, "loaded") else folder
    folder = path_of("folder", folder if run is None else run.folder)
    out = folder / "report.html" if out is None else path_of("out", out)
    first = next(iter(seed_folders(folder).values()), folder)  # all but the seeds' own section is of one run
    RunRecord.read(first)  # a folder without a run is named before what is wrong with a place inside it
    check_place(folder, out, overwrite, GENERATOR, "report")
    facts = read_run(folder, immutable=immutable, backbone=None if run is None else run.model.coding_backbone())
    recovered = read_recovery(recovery) if recovery else None
    compared = read_comparisons(compare, facts, immutable=immutable) if compare else Compared(())
    judged: Judged | NoData | None = None
    if (inference is not None or run is not None) and limit != 0 and facts.tasks:
        from supsup_models.inference import Inference
        from supsup_models.report.judging import judge_run

        judged = judge_run(
            first if run is None else run.loaded,
            inference or Inference(),
            limit=limit,
            data=data,
            download=download,
            device=device,
            immutable=immutable,
            reporter=reporter,
        )
    page = render(facts, judged, recovered, compared)
    with replacing(out, overwrite=True) as scratch:
        scratch.write_text(page.html, encoding="utf-8", newline="\n")
    return Report(out, facts, page, judged)

"""A run on the Hugging Face Hub: saved, loaded and pushed as other models there are, with a card of its figures."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from maskstore import MaskBank, __version__
from maskstore.bank import Maintenance, side_files
from maskstore.errors import needing
from maskstore.files import read_json
from supsup_models._names import expect, path_of
from supsup_models.data import TaskStream
from supsup_models.errors import RunError
from supsup_models.networks import MaskedModel
from supsup_models.report.facts import RunFacts, read_run
from supsup_models.report.wording import bits, percent, plural, size
from supsup_models.runs import LoadedRun, RunRecord, bank_path, calibration_path, load_run, record_path

with needing("huggingface_hub", "HubRun"):
    from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download

_CARD = """---
library_name: maskstore
tags:
- maskstore
- supermasks
---

# {title}

{tasks} on one frozen {model}. Each task is a binary mask: it says which weights of the network the task uses. The file
`masks.bank` takes {size}, {bits} bits for each weight and task. {accuracy}

```python
from supsup_models.report import HubRun

run = HubRun.from_pretrained({name!r}{model_argument}).run
print(run.matrix.names)
```

{model_note}
| task | test accuracy | bytes of the mask |
|---|---|---|
{rows}

Trained on `{stream}` with recipe `{recipe}`, {batches} batches a task, seed {seed}.
"""
_ROWS = 200  # of a card; the bank has all tasks


@final
class HubRun(ModelHubMixin, library_name="maskstore", tags=["maskstore", "supermasks"]):
    """A trained run that can be shared. It needs the package `huggingface_hub` (extra `hub`).

    `save_pretrained(folder)` writes its record, its masks, its calibration and a card. `from_pretrained(folder)` or
    `from_pretrained("user/name")` loads it; a network that was made by `convert` is given as `model=`, data of one's
    own as `stream=`. `push_to_hub("user/name")` uploads what `save_pretrained` writes. All other arguments are those of
    `huggingface_hub.ModelHubMixin`. The weights of a trained network are not part of it: the record and the bank have
    their hash, and other weights are refused. A run is saved over an earlier state of itself, over no other files.

    Args:
        run: The run, as `load_run` gives it; of a `Run`, its `loaded`.

    Raises:
        MissingPackageError: When the name is first used, without `huggingface_hub`.
        RunError: A folder without a run, a network or data that are not the run's, or a folder to save in that holds
            another run, masks of no run, or a model's `config.json`.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from supsup_models import load_run, run_config, train_run
        >>> from supsup_models.report import HubRun
        >>> config = run_config("permuted-digits", tasks=2, outputs=40, batches=10, recipe="dense")
        >>> with TemporaryDirectory() as folder:
        ...     _ = train_run(config, Path(folder, "run"))
        ...     _ = HubRun(load_run(Path(folder, "run"), "cpu")).save_pretrained(f"{folder}/shared")
        ...     sorted(path.name for path in Path(folder, "shared").iterdir())
        ...     HubRun.from_pretrained(f"{folder}/shared").run.matrix.names
        ['README.md', 'calibration.json', 'config.json', 'masks.bank', 'run.json']
        ('task-0', 'task-1')
    """

    def __new__(cls, run: LoadedRun) -> "HubRun":
        """Without the mixin's own, which would copy the whole run to write it out as a `config.json`."""
        made = object.__new__(cls)
        made._hub_mixin_config = {"library_name": "maskstore", "library_version": __version__}
        return made

    def __init__(self, run: LoadedRun) -> None:
        self.run = expect("run", run, LoadedRun, "a LoadedRun", Run="run.loaded is one")

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card: what the tasks are, their figures, and how to load them. Arguments have no effect."""
        folder, backbone = self.run.folder, self.run.model.coding_backbone()
        return ModelCard(_card(read_run(folder, immutable=True, backbone=backbone), folder.resolve().name))

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the run into a folder; RunError for one that holds another run. Options are those of the mixin."""
        _check_free(path_of("save_directory", save_directory), self.run.folder)
        saved: str | None = super().save_pretrained(save_directory, **options)
        return saved

    def _save_pretrained(self, save_directory: Path) -> None:
        folder = self.run.folder
        if save_directory.resolve() == folder.resolve():
            return  # all but the card is there
        target = bank_path(save_directory)
        for earlier in (target, *side_files(target), calibration_path(save_directory)):
            earlier.unlink(missing_ok=True)
        shutil.copyfile(record_path(folder), record_path(save_directory))  # first: it says whose the other files are
        with (
            MaskBank.open(bank_path(folder)) as bank,
            Maintenance(bank).image_file() as image,
            target.open("wb") as out,
        ):
            shutil.copyfileobj(image, out)
        if calibration_path(folder).exists():
            shutil.copyfile(calibration_path(folder), calibration_path(save_directory))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> "HubRun":
        """The run of a folder or of a repository of the Hub; RunError for a damaged `config.json` beside it."""
        config = path_of("folder", pretrained_model_name_or_path) / "config.json"
        if config.is_file():
            read_json(config, "a model's config", dict, RunError)
        try:
            found: HubRun = super().from_pretrained(pretrained_model_name_or_path, **options)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RunError(
                f"{pretrained_model_name_or_path}: expected a config.json of a model, found one that is no JSON"
            ) from error
        return found

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        model: MaskedModel | None = None,
        stream: TaskStream | None = None,
        device: str = "auto",
        **_: Any,
    ) -> "HubRun":
        folder = Path(model_id)
        if not folder.is_dir():
            wanted = [place(Path()).name for place in (record_path, bank_path, calibration_path)]
            folder = Path(
                snapshot_download(
                    model_id,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                    allow_patterns=wanted,
                )
            )
        return cls(load_run(folder, device, model=model, stream=stream, immutable=True))


def _check_free(folder: Path, source: Path) -> None:
    """RunError unless a folder has no files that saving a run would replace, or those of the same run."""
    if folder.resolve() == source.resolve():
        return
    if not record_path(folder).exists():
        files = bank_path(folder), calibration_path(folder), folder / "config.json"
        if others := next((file.name for file in files if file.exists()), None):
            raise RunError(f"{folder}: expected a folder without files of others, found {others}; name a new folder")
        return
    there, saved = RunRecord.read(folder), RunRecord.read(source)
    lost = {task.get("name") for task in there.tasks} - {task.get("name") for task in saved.tasks}
    if lost or _identity(there) != _identity(saved):
        what = "tasks that the run lacks" if _identity(there) == _identity(saved) else "another run"
        raise RunError(f"{folder}: expected no run or the same one, found {what}; name a new folder")


def _identity(record: RunRecord) -> RunRecord:
    """What stays the same of a run while it is trained, and when it gets more tasks."""
    own = record.own
    if own is not None and own.data is not None:
        own = replace(own, data=dict(list(own.data.items())[:1]))
    config, stream = replace(record.config, tasks=0), {**record.stream, "tasks": 0, "classes": 0}
    return replace(record, config=config, stream=stream, own=own, tasks=(), versions={}, device="")


def _card(facts: RunFacts, name: str) -> str:
    """The text of a model card. What a file says is quoted, so that it cannot be taken for markup."""
    config, own = facts.record.config, facts.record.own is not None and facts.record.own.network is not None
    rows = [f"| {_quoted(task.name)} | {percent(task.accuracy)} | {task.coded_bytes} |" for task in facts.tasks[:_ROWS]]
    if len(facts.tasks) > _ROWS:
        rows.append(f"| and {len(facts.tasks) - _ROWS} more | | |")
    mean = f"Mean test accuracy, with the task given: {percent(facts.accuracy)}." if facts.accuracy is not None else ""
    note = "`model` is the network after `convert`, with the weights that the masks were trained on.\n"
    return _CARD.format(
        title=_quoted(name),
        tasks=plural(len(facts.tasks), "task" if facts.task_identity else "mask"),
        model=_quoted(config.model),
        size=size(0 if facts.account is None else facts.account.total_bytes),
        bits=bits(facts.bits_per_parameter),
        accuracy=mean,
        name=f"user/{name}",
        model_argument=", model=model" if own else "",
        model_note=note if own else "",
        rows="\n".join(rows),
        stream=_plain(config.stream),
        recipe=_plain(config.recipe),
        batches=config.batches,
        seed=config.seed,
    )


def _plain(text: str) -> str:
    """Text between backquotes in a table: no backquotes, no ends of lines or cells."""
    return "".join(" " if letter in "`|" or not letter.isprintable() else letter for letter in text)


def _quoted(text: str) -> str:
    return f"`{_plain(text)}`"

"""A run on the Hugging Face Hub: saved, loaded and pushed as other models there are, with a card of its figures."""

import shutil
from pathlib import Path
from typing import Any, final

from maskstore import MaskBank, __version__
from maskstore.bank import Maintenance
from maskstore.errors import needing
from supsup_models._names import expect
from supsup_models.data import TaskStream
from supsup_models.networks import MaskedModel
from supsup_models.report.facts import RunFacts, read_run
from supsup_models.report.wording import bits, percent, plural, size
from supsup_models.runs import LoadedRun, bank_path, calibration_path, load_run, record_path

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
    their hash, and other weights are refused.

    Args:
        run: The run, as `load_run` gives it; of a `Run`, its `loaded`.

    Raises:
        MissingPackageError: When the name is first used, without `huggingface_hub`.
        RunError: A folder without a run, or a network or data that are not the run's.

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
        return ModelCard(_card(read_run(self.run.folder, immutable=True), self.run.folder.resolve().name))

    def _save_pretrained(self, save_directory: Path) -> None:
        folder = self.run.folder
        if save_directory.resolve() == folder.resolve():
            return  # all but the card is there
        target = bank_path(save_directory)
        with (
            MaskBank.open(bank_path(folder)) as bank,
            Maintenance(bank).image_file() as image,
            target.open("wb") as out,
        ):
            shutil.copyfileobj(image, out)
        for path in (record_path(folder), calibration_path(folder)):
            if path.exists():
                shutil.copyfile(path, save_directory / path.name)

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

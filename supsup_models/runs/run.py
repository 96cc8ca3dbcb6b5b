"""A run folder from Python: a network and data of one's own, with all that the runs of `supsup train` have."""

from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from supsup_models._names import choose, path_of, whole_number
from supsup_models._progress import Reporter, Reporting
from supsup_models.data import TaskStream, check_image_shape
from supsup_models.errors import NetworkError, RunError
from supsup_models.inference import Evaluation, Inference
from supsup_models.networks import MaskedModel, MaskedNetwork, check_model
from supsup_models.networks.convert import ConvertedModel
from supsup_models.runs.config import run_recipe, shard_of, shown_views, versions
from supsup_models.runs.evaluate import evaluate_run
from supsup_models.runs.infer import Answers, infer_images
from supsup_models.runs.load import LoadedRun, check_stream, load_run
from supsup_models.runs.own import data_digests, has_name, network_answers, network_digest, own_recipe
from supsup_models.runs.record import NetworkSizes, Own, Pixels, RunConfig, RunRecord, Shard, record_path
from supsup_models.runs.train import Trained, train_into
from supsup_models.runs.workers import Executes, Workers
from supsup_models.training import BACKBONE, DEFAULT, DENSE, EDGE_POPUP, RECIPES, Recipe


@final
class Run:
    """A run in a folder: the masks of a stream's tasks, and the record of how they were made.

    `create` begins a run or goes on with it, `open` takes one that was trained. What the folder needs from its caller
    is given again each time: the network if it is a converted one, and the data if they are not a stream of
    `open_stream`. A network, data or arguments that are not those of the folder are refused. `make_report(run)` writes
    its page.

    Attributes:
        folder: Where the run is.
        model: The network.
        stream: The tasks.

    Examples:
        >>> import numpy as np, torch
        >>> from tempfile import TemporaryDirectory
        >>> from supsup_models import Run, TaskStream, convert
        >>> from supsup_models.report import make_report
        >>> rng = np.random.default_rng(0)
        >>> def labelled(images: int, turned: int) -> tuple[np.ndarray, np.ndarray]:
        ...     labels = rng.integers(0, 2, images)
        ...     pixels = rng.normal(size=(images, 1, 6, 6)).astype("f4")
        ...     pixels[:, 0, turned] += 4 * labels[:, None] - 2
        ...     return pixels, labels
        >>> stream = TaskStream.from_arrays([(*labelled(200, row), *labelled(100, row)) for row in range(2)])
        >>> layers = [torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(128, 2)]
        >>> model = convert(torch.nn.Sequential(*layers), mask="edge-popup", image_shape=(1, 6, 6), seed=1)
        >>> with TemporaryDirectory() as folder:
        ...     run = Run.create(f"{folder}/own", model, stream, batches=60)
        ...     trained = run.train()
        ...     again = Run.create(f"{folder}/own", model, stream, batches=60).train()  # finds nothing left to do
        ...     found = run.evaluate("GG")
        ...     answers = run.infer(stream[0].test.images(slice(0, 3)).numpy(), one_task=True)
        ...     page = make_report(run).page
        >>> trained.new_tasks, again.new_tasks, found.accuracy > 0.8
        (2, 0, True)
        >>> len(answers.answers), page.drawn[:3]
        (3, ('accuracy', 'training', 'storage'))
    """

    def __init__(
        self, folder: Path, model: MaskedModel, stream: TaskStream, record: RunRecord, recipe: Recipe | None
    ) -> None:
        self.folder, self.model, self.stream = folder, model, stream
        self._record, self._recipe = record, recipe
        self._loaded: LoadedRun | None = None

    @classmethod
    def create(
        cls,
        folder: str | Path,
        model: MaskedModel,
        stream: TaskStream,
        *,
        recipe: Recipe | str | None = None,
        batches: int = 1000,
        transfer: bool = False,
        shard: Shard | str | None = None,
    ) -> "Run":
        """A run of these arguments in a folder. What an earlier call has trained there is kept; nothing is read or
        written before `train`.

        Args:
            folder: The run's folder; made by `train` if it is not there.
            model: A `MaskedNetwork`, or a module after `convert(..., image_shape=...)`.
            stream: The tasks, such as `TaskStream.from_arrays` makes.
            recipe: A recipe or its name; by default what suits the model: "default" for densities by layer,
                "edge-popup" for edge-popup masks, "backbone" where tasks have heads or other parameters of their own,
                "dense" for others.
            batches: Training batches for each task.
            transfer: Whether each task's scores start from the mean of the masks before it.
            shard: Which part of the tasks, such as "0/3", as in `train_run`.

        Raises:
            UnknownNameError: No such recipe.
            ShardError: The run cannot be cut into these shards.
            NetworkError: A model that takes no images of the stream, or has too few outputs.
            ShapeError: Images whose channels, rows and columns come in another order than the model's.
        """
        check_model(model)
        check_stream(stream)
        folder, batches = path_of("folder", folder), whole_number("batches", batches)
        if recipe is None:
            recipe = _usual_recipe(model)
        elif isinstance(recipe, str):
            recipe = choose("recipe", recipe, RECIPES)
        model.check_takes_images()
        if model.inputs != stream.inputs or not 1 <= stream.classes <= model.classes:
            raise NetworkError(
                f"run: expected images of {stream.inputs} values and at least {stream.classes} classes, as the stream "
                f"has, found a network of {model.inputs} inputs and {model.classes} classes"
            )
        check_image_shape(stream[0].train, model)
        if batches < 1:
            raise NetworkError(f"training: expected at least 1 batch, found {batches}")
        record = _new_record(model, stream, recipe, batches, transfer)
        if shard is not None:
            record = replace(record, shard=shard_of(record.config, shard))
        return cls(folder, model, stream, record, recipe)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        model: MaskedModel | None = None,
        stream: TaskStream | None = None,
        *,
        data: Path | None = None,
        device: str = "auto",
        immutable: bool = False,
    ) -> "Run":
        """A run that was trained, by `train` or by `supsup train`.

        Args:
            folder: The run's folder.
            model: The network of a run over a module; any other is made from the record.
            stream: The data of a run over data of one's own; any other stream is opened by its name.
            data: A folder with the data set's files, for a stream that is opened by its name.
            device: "auto", "cpu" or "cuda", for a network that is made from the record.
            immutable: Read the bank as it lies there, as `MaskBank.open` does, because nobody writes to it.

        Raises:
            RunError: A folder without a run, or a model or data that are not the run's, or are missing.
        """
        loaded = load_run(folder, device, model=model, stream=stream, immutable=immutable)
        own = loaded.record.own
        recipe = run_recipe(loaded.record.config) if own is None or own.recipe is None else None
        run = cls(loaded.folder, loaded.model, loaded.stream(data), loaded.record, recipe)
        run._loaded = replace(loaded, own_stream=run.stream)
        return run

    @property
    def record(self) -> RunRecord:
        """What `run.json` says now; before the first `train` what it will say."""
        return RunRecord.read(self.folder) if record_path(self.folder).exists() else self._record

    @property
    def loaded(self) -> LoadedRun:
        """The network, the masks and their statistics, as they are on the disk since the last `train`."""
        if self._loaded is None:
            self._loaded = load_run(self.folder, model=self.model, stream=self.stream)
        return self._loaded

    def train(
        self,
        *,
        reporter: Reporting = Reporter,
        restart: bool = False,
        executor: Executes | Workers | None = None,
    ) -> Trained:
        """Train the tasks that the folder does not hold yet; after an interruption, go on where it stopped.

        Args:
            reporter: Makes what shows progress; lines and a bar on standard error if not said.
            restart: First remove what an earlier run left in the folder.
            executor: Where the tasks are trained, as in `train_run`; workers are sent the stream, and the network if
                its name does not say all of it.

        Raises:
            RunError: The folder holds another run: other arguments, another network or other data.
            RunBusyError: Another process is training there.
            ShardError: The tasks cannot be trained apart.
            WorkerError: A worker was lost, or could not be given its work.
        """
        if self._recipe is None:
            raise RunError(
                f"{self.folder}: expected the run's own recipe, found none known; `Run.create` takes it, and goes on"
            )
        self._loaded = None
        return train_into(
            self.folder, self.model, self.stream, self._recipe, self._record,
            reporter=reporter, restart=restart, executor=executor,
        )  # fmt: skip

    def evaluate(
        self,
        scenario: str | None = None,
        inference: Inference = Inference(),
        *,
        limit: int | None = None,
        reporter: Reporting = Reporter,
    ) -> Evaluation:
        """Judge every task that was trained, as `evaluate_run` does."""
        return evaluate_run(self.loaded, scenario, inference, limit=limit, reporter=reporter)

    def infer(self, images: Path | NDArray[np.generic], **options: Any) -> Answers:
        """Task and label of unlabelled images; the options are those of `infer_images`."""
        return infer_images(self.loaded, images, **options)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: {self._record.config.model} on {self.stream.name})"


def _usual_recipe(model: MaskedModel) -> Recipe:
    if model.own_parameters:
        return BACKBONE
    if model.densities is not None:
        return DEFAULT
    edge_popup = isinstance(model, ConvertedModel) and model.conversion.mask == "edge-popup"
    return EDGE_POPUP if edge_popup else DENSE


def _new_record(model: MaskedModel, stream: TaskStream, recipe: Recipe, batches: int, transfer: bool) -> RunRecord:
    how = model.conversion if isinstance(model, ConvertedModel) else None
    name = model.architecture.name if isinstance(model, MaskedNetwork) else type(model).__name__
    name = type(model.module).__name__ if isinstance(model, ConvertedModel) else name
    sparse = recipe.sparse
    config = RunConfig(
        stream=stream.name,
        tasks=len(stream),
        model=name,
        outputs=model.outputs,
        batches=batches,
        recipe=recipe.name,
        seed=model.seed,
        mask="threshold" if how is None else how.mask,
        weights="signed-constant" if how is None else how.weights,
        density=None if sparse is None else sparse.density,
        sparsity=None if sparse is None else sparse.sparsity,
        transfer=transfer,
    )
    shape = None if how is None else how.image_shape
    sizes = NetworkSizes(
        model.inputs, model.outputs, model.classes, model.weight_gain, densities=model.densities, image_shape=shape
    )
    test = stream[0].test
    named, known_data = has_name(model), stream.to_json().get("data_set") is not None
    own = Own(
        None if named else network_digest(model),
        own_recipe(recipe),
        None if known_data else data_digests(stream),
        None if named else network_answers(model),
    )
    own_or_none = None if own == Own() else own
    pixels = Pixels(test.scale, test.shift)
    return RunRecord(
        config, sizes, stream.to_json(), pixels, versions(), model.device.type,
        own=own_or_none, views=shown_views(recipe, stream),
    )  # fmt: skip

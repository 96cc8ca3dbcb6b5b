"""One way to bring about each error and warning of the three packages, and the form of what it says then."""

import inspect
import sqlite3
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import nn

import hopfield
import hopfield.errors as he
import maskstore.errors as me
import supsup_models.errors as se
from hopfield import capacity, patterns
from maskstore import KeptWeights, Mask, MaskBank, MaskMatrix, MaskSpec, open_index, time_limit, write_index
from maskstore.bank import sqlite
from maskstore.codecs import Zstd
from maskstore.files import read_regular
from maskstore.interop import ReadOptions, ShardReader, read_masks, write_safetensors, write_shards
from maskstore.interop.shards.engines import open_store
from maskstore.kernels import compiled, notes
from maskstore.kernels.ir import seeded_contexts
from maskstore.priors import prior_from_config
from maskstore.torch import PackedMasks
from supsup_models import MaskedNetwork, TaskStream, convert, export_onnx, infer_task, inference, runs, train_task
from supsup_models.data import open_stream
from supsup_models.data.sets.download import download_files
from supsup_models.data.sets.load import load_data_set
from supsup_models.data.sets.mnist import IDX_DATA_SETS, IDX_FILES
from supsup_models.hopsupsup import check_plot
from supsup_models.networks import layer_densities
from supsup_models.report.recovery import read_recovery
from supsup_models.serving import Client
from tests.helpers.messages import check_message

SPEC = MaskSpec({"fc1": (6, 4)})
MASK = np.arange(24).reshape(6, 4) % 3 == 0
CASES: dict[type[Exception], Callable[["Place"], object]] = {}


class Place:
    """A folder with a bank, and what else the cases need."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.path = folder / "a.bank"
        with MaskBank.create(self.path, SPEC, meta={"seed": 1}) as bank:
            bank.put("task-0", {"fc1": MASK})
        self.matrix = MaskBank.open(self.path).matrix()

    def bank(self, mode: str = "r", **options: Any) -> MaskBank:
        return MaskBank.open(self.path, mode, **options)

    def stale_index(self) -> MaskMatrix:
        with self.bank("a") as bank:
            path = write_index(bank)
            bank.delete("task-0")
            return open_index(path, bank=bank)

    def on_a_network(self) -> "Place":
        (self.folder / "mounts").write_text(f"1 0 0:9 / {self.folder} rw - nfs4 server:/ rw\n")
        self.patch.setattr("maskstore.files.file_systems._MOUNTS", self.folder / "mounts")
        return self

    def text(self, name: str) -> Path:
        (self.folder / name).write_text("hello")
        return self.folder / name

    def changed(self, statement: str) -> None:
        link = sqlite3.connect(self.path, isolation_level=None)
        link.execute(statement)
        link.close()

    def model(self, seed: int = 0) -> MaskedNetwork:
        return MaskedNetwork("lenet-300-100", inputs=4, outputs=3, classes=3, seed=seed)

    def memory(self, count: int = 2) -> hopfield.HopfieldNetwork:
        memory = hopfield.HopfieldNetwork(16)
        memory.store(patterns.random_patterns(count, 16, torch.Generator().manual_seed(0)))
        return memory


def raising(kind: type[Exception]) -> Callable[[Callable[[Place], object]], None]:
    def keep(case: Callable[[Place], object]) -> None:
        assert kind not in CASES
        CASES[kind] = case

    return keep


for _kind, _case in {
    me.ArgumentTypeError: lambda p: MaskBank.open(None),  # type: ignore[arg-type]
    me.SpecError: lambda p: MaskSpec({"fc1": (0, -1)}),
    me.MaskValueError: lambda p: Mask.from_dense({"fc1": [[2]]}),
    me.LayerNotFoundError: lambda p: p.bank().layer("task-0", "fc2"),
    me.TaskNotFoundError: lambda p: p.bank()["task0"],
    me.TaskExistsError: lambda p: p.bank("a").put("task-0", {"fc1": MASK}),
    me.UnknownCodecError: lambda p: p.bank("a").put("t", {"fc1": MASK}, codec="zip"),
    me.UnknownPriorError: lambda p: prior_from_config({"id": "psychic"}),
    me.CodecError: lambda p: Zstd(level=99),
    me.NotABankError: lambda p: MaskBank.open(p.text("text")),
    me.ForeignFileError: lambda p: read_masks(p.text("m.npz")),
    me.ImportOptionError: lambda p: ReadOptions(layout="arrays", bit_order="middle"),  # type: ignore[arg-type]
    me.IrregularFileError: lambda p: read_regular(p.folder),
    me.StaleIndexError: lambda p: p.stale_index(),
    me.BackboneError: lambda p: p.bank("a").put("t", {"fc1": MASK}, prior=KeptWeights("0" * 32)),
    me.LimitError: lambda p: p.bank(limit=1)["task-0"],
    me.BankNotFoundError: lambda p: MaskBank.open(p.folder / "none"),
    me.BankExistsError: lambda p: MaskBank.create(p.path, SPEC),
    me.BankReadOnlyError: lambda p: p.bank().put("t", {"fc1": MASK}),
    me.BankIOError: lambda p: ShardReader("nowhere://a.shard"),
    me.NetworkFileSystemError: lambda p: p.on_a_network().bank(),
    me.WriteConflictError: lambda p: open_store(str(p.folder)).swap("a.bank", b"", None),
    me.StoreOptionError: lambda p: write_shards(p.bank(), p.folder / "tasks", shards=0),
    me.DeviceError: lambda p: PackedMasks.of(p.matrix, "cuda:77"),
    he.PatternError: lambda p: p.memory().store([[2.0] * 16]),
    he.DimensionError: lambda p: p.memory().recall([1.0] * 3),
    he.RuleError: lambda p: capacity.scan_capacity(hopfield.DualMemory.of_patterns, 1, (1,)),
    he.EntropyError: lambda p: hopfield.recover(p.memory(), lambda mask: torch.tensor(1.0), hopfield.SearchRecipe()),
    he.EmptyMemoryError: lambda p: hopfield.HopfieldNetwork(16).recall([1.0] * 16),
    he.ForgetError: lambda p: hopfield.HopfieldNetwork(16, hopfield.Storkey()).forget(torch.ones(1, 16)),
    he.MemoryFileError: lambda p: hopfield.load_memory(p.text("n.npz")),
    he.MemoryWriteError: lambda p: p.memory().save(p.folder / "no" / "n.npz"),
    he.DeviceError: lambda p: hopfield.HopfieldNetwork(16, device="cuda:77"),
    he.CapacityWarning: lambda p: p.memory(9),
    he.LearningWarning: lambda p: _hard_to_learn(),
    se.DataNotFoundError: lambda p: open_stream("permuted-mnist", data=p.folder),
    se.UnknownStreamError: lambda p: open_stream("permuted-digit"),
    se.UnknownDataSetError: lambda p: load_data_set("mnits"),
    se.StreamLengthError: lambda p: open_stream("split-digits", tasks=99),
    se.UnknownNameError: lambda p: MaskedNetwork("lenet", inputs=4, outputs=3, seed=0),
    se.NetworkError: lambda p: MaskedNetwork("lenet-300-100", inputs=0, outputs=3, seed=0),
    se.NoFeaturesError: lambda p: MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0).features(
        torch.zeros(1, 64)
    ),
    se.ConversionError: lambda p: convert(nn.ReLU()),
    se.SparsityError: lambda p: layer_densities({"fc1": (3, 4)}, "er", density=9.0),
    se.ShapeError: lambda p: p.model()(torch.zeros(2, 5), Mask.from_flat(_ones(p.model()), p.model().spec)),
    se.MissingMaskError: lambda p: p.model()(torch.zeros(2, 4)),
    se.RunError: lambda p: runs.load_run(p.folder, "cpu"),
    se.WorkerError: lambda p: _train_run(p.folder / "run", executor=_Closed()),
    se.ShardError: lambda p: runs.merge_runs([], p.folder / "run"),
    se.InferenceError: lambda p: inference.make_objective("G", classes=3, outputs=3),
    se.ArgumentError: lambda p: inference.MaskServer(p.model(), _bank_of(p), cache_bytes=-1),
    se.ClassesWarning: lambda p: TaskStream.from_arrays([(np.zeros((2, 4)), [1, 2]) * 2]),
    se.ArgumentTypeError: lambda p: train_task("lenet", None, "paper", task=0, steps=1),  # type: ignore[arg-type]
    se.TaskDataError: lambda p: _train(p, torch.zeros(3)),
    se.DataFormatError: lambda p: load_data_set("mnist", data=_other_data(p)),
    se.PlotError: lambda p: check_plot(p.folder / "plot.doc"),
    se.ImageValueError: lambda p: infer_task(p.model(), _bank_of(p).matrix(), torch.full((2, 4), torch.nan)),
    se.ImageValueWarning: lambda p: infer_task(p.model(), _bank_of(p).matrix(), torch.full((2, 4), 100.0)),
    se.LabelValueError: lambda p: _train(p, torch.full((8,), 7)),
    se.MissingStatisticsError: lambda p: _normalised()(torch.zeros(2, 1, 4, 4), _masks(_normalised())[0]),
    se.StatisticsError: lambda p: _normalised().bind(_masks(_normalised())[0], _no_statistics(_normalised())),
    se.BatchStatisticsError: lambda p: _infer(torch.zeros(1, 16), method="one-shot"),
    se.MethodWarning: lambda p: _infer(torch.zeros(4, 16), method="one-shot"),
    se.TrainingStopped: lambda p: _train(p, torch.zeros(8, dtype=torch.int64), stop=lambda: True),
    se.RequestError: lambda p: Client("http://127.0.0.1:1").tasks(),
    se.ReportError: lambda p: read_recovery(p.folder / "none.json"),
    se.DeviceError: lambda p: _bank_mask(p, torch.zeros(2, 4, device="meta")),
    se.StateDictWarning: lambda p: p.model().load_state_dict({}, strict=False),
    se.OtherNetworkError: lambda p: p.model().load_state_dict(p.model(seed=1).state_dict()),
    he.StoreError: lambda p: hopfield.QuantizedNetwork.of(p.memory(1), "int8").store(torch.ones(16)),
}.items():
    CASES[_kind] = _case


def _bank_mask(place: "Place", images: torch.Tensor) -> None:
    place.model()(images, _bank_of(place)["task-0"])


class _Closed:
    def submit(self, *_: object) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")


def _train_run(folder: Path, **options: Any) -> None:
    runs.train_run(runs.run_config("permuted-digits", tasks=1, batches=1), folder, **options)


def _train(place: "Place", labels: torch.Tensor, **options: Any) -> None:
    train_task(place.model(), (torch.zeros(8, 4), labels), "dense", task=0, steps=60, **options)


def _no_statistics(model: Any) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(value, -1.0) for name, value in model.initial_statistics().items()}


def _normalised() -> Any:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 3))
    return convert(module, seed=0, image_shape=(1, 4, 4))


def _masks(model: Any) -> Any:
    matrix = MaskMatrix(model.spec)
    for task in range(2):
        matrix.append(f"task-{task}", model.mask_of(model.initial_scores(task=task)))
    return matrix


def _infer(images: torch.Tensor, **options: Any) -> None:
    model = _normalised()
    infer_task(model, _masks(model), images, **options)


def _bank_of(place: "Place") -> MaskBank:
    model = place.model()
    with MaskBank.create(place.folder / "model.bank", model.spec) as bank:
        bank.put("task-0", model.mask_of(model.initial_scores(task=0)))
    return MaskBank.open(bank.path)


def _other_data(place: "Place") -> Path:
    """Four files with the names of MNIST's and other content."""
    for name in IDX_FILES:
        sizes = (10,) if "labels" in name else (10, 28, 28)
        head = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
        (place.folder / name).write_bytes(head + bytes(int(np.prod(sizes))))
    return place.folder


@raising(me.TimeLimitError)
def _(p: Place) -> object:
    with time_limit(0):
        return p.bank()["task-0"]


@raising(me.CorruptError)
def _corrupt(place: "Place") -> None:
    place.changed("UPDATE chunks SET data = zeroblob(length(data))")
    place.bank().verify()


@raising(me.FormatVersionError)
def _version(place: "Place") -> None:
    place.changed("PRAGMA user_version = 99")
    place.bank()


@raising(me.MissingPackageError)
def _package(place: "Place") -> None:
    place.patch.setitem(sys.modules, "safetensors", None)
    write_safetensors(place.bank(), place.folder / "a.safetensors")


@raising(me.BankBusyError)
def _busy(place: "Place") -> None:
    with place.bank("a") as writer, writer.transaction():
        place.bank("a", timeout=0)


@raising(me.BankFullError)
def _full(place: "Place") -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
    named = sqlite.named(error, place.path)
    assert named is not None
    raise named


@raising(me.BankClosedError)
def _closed(place: "Place") -> None:
    bank = place.bank()
    bank.close()
    len(bank)


@raising(me.CompilerError)
def _compiler(place: "Place") -> None:
    place.patch.setattr(numba.core.config, "DISABLE_JIT", 1)
    place.patch.setattr(notes, "_told", [])  # what is noted here is forgotten again
    compiled(lambda a, b: seeded_contexts._high_product(a, b))(1, 2)


@raising(me.BankThreadError)
def _thread(place: "Place") -> None:
    caught: list[Exception] = []

    def put() -> None:
        try:
            writer.put("t", {"fc1": MASK})
        except Exception as error:
            caught.append(error)

    with place.bank("a") as writer:
        thread = threading.Thread(target=put)
        thread.start()
        thread.join()
    raise caught[0]


@raising(he.NoEnergyError)
def _no_energy(place: "Place") -> None:
    memory = hopfield.HopfieldNetwork(16, hopfield.Perceptron(symmetric=False))
    memory.store(patterns.random_patterns(2, 16, torch.Generator().manual_seed(0)))
    memory.energy([1.0] * 16)


@raising(se.DownloadError)
def _download(place: "Place") -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    place.patch.setattr("urllib.request.urlopen", refuse)
    download_files(IDX_DATA_SETS["mnist"], place.folder / "mnist")


@raising(se.ExportError)
def _export(place: "Place") -> None:
    place.patch.setattr("supsup_models.networks.convert.onnx.find_spec", lambda name: None)
    model = convert(nn.Sequential(nn.Linear(4, 3)), image_shape=(4,))
    export_onnx(model, _masks(model)[0], place.folder / "m.onnx", torch.zeros(1, 4))


@raising(se.RunBusyError)
def _run_busy(place: "Place") -> None:
    folder = place.folder / "run"
    folder.mkdir()
    with FileLock(folder / ".train.lock"):
        _train_run(folder)


@raising(se.SharedStateWarning)
def _shared(place: "Place") -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.layer(x)

    model = convert(Counting(), image_shape=(4,))
    model(torch.zeros(2, 4), _masks(model)[0])


def _ones(model: Any) -> np.ndarray:
    return np.ones(model.spec.bits, dtype=np.bool_)


def _hard_to_learn() -> None:
    memory = hopfield.HopfieldNetwork(10, hopfield.Perceptron(max_steps=1))
    memory.store(patterns.random_patterns(9, 10, torch.Generator().manual_seed(0)))


CLASSES = {
    kind
    for module in (me, he, se)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == module.__name__
}
WHOLE = {se.TrainingStopped}
"""Says what happened: nothing was expected otherwise."""
BASES = {me.MaskStoreError, he.HopfieldError, se.SupSupError}
"""Never raised themselves."""


def test_every_class_has_a_case() -> None:
    assert {kind.__name__ for kind in CLASSES - BASES - CASES.keys()} == set()


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: f"{kind.__module__.partition('.')[0]}-{kind.__name__}")
def test_it_is_one_line_that_says_what_to_do(kind: type[Exception], tmp_path, monkeypatch) -> None:
    place = Place(tmp_path, monkeypatch)
    monkeypatch.setattr(warnings, "filters", [])
    warnings.simplefilter("error", UserWarning)
    with pytest.raises(kind) as caught:
        CASES[kind](place)
    assert type(caught.value) is kind
    if kind not in WHOLE:
        check_message(str(caught.value))

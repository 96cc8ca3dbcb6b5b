"""Tasks on kept weights behind a server: masks coded against the weights, told by their prototypes."""

import numpy as np
import pytest
import torch
from torch import nn

from maskstore import KeptWeights, MaskBank, errors, open_source
from maskstore.interop import ShardReader, write_shard, write_shards
from supsup_models import RECIPES, convert, infer_each, open_stream, train_task
from supsup_models.errors import ArgumentTypeError
from supsup_models.inference import MaskServer
from supsup_models.serving import Engine

STREAM = open_stream("transformed-digits", tasks=2)


def _model(seed: int = 0):
    torch.manual_seed(seed)
    parts = (nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
    return convert(
        nn.Sequential(*parts).eval(), weights="keep", head="4", own="norm", image_shape=(1, 8, 8), classes=10
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("kept"), _model()
    prior = KeptWeights(model.backbone())
    with MaskBank.create(folder / "tasks.bank", model.spec, meta=model.bank_meta()) as bank:
        for task in STREAM:
            one = train_task(model, task.train, RECIPES["backbone"], task=task.index, steps=3)
            bank.put(task.name, one.mask, extras=one.rounded(), prior=prior)
        write_shard(bank, folder / "tasks.shard")
        write_shards(bank, folder / "tasks", shards=2)
        matrix, extras = bank.matrix(), {name: bank.extras(name) for name in bank}
    return folder, model, matrix, extras


@pytest.mark.parametrize("name", ["tasks.bank", "tasks.shard", "tasks"])
def test_every_source_gives_them_back_with_the_weights(stored, name):
    folder, model, matrix, _ = stored
    with open_source(folder / name, backbone=model.backbone()) as source:
        for row, task in enumerate(matrix.names):
            assert source[task] == matrix[row]
    with open_source(folder / name) as source, pytest.raises(errors.BackboneError, match="found none"):
        source["task-0"]


def test_a_reader_that_is_sent_elsewhere_takes_its_weights_along(stored):
    import pickle

    folder, model, matrix, _ = stored
    with ShardReader(folder / "tasks.shard", backbone=model.backbone()) as shard:
        again = pickle.loads(pickle.dumps(shard))
        assert again["task-1"] == matrix[1]
        again.close()


@pytest.mark.parametrize("name", ["tasks.bank", "tasks"])
def test_an_engine_answers_as_inference_by_prototypes_does(stored, name):
    folder, model, matrix, extras = stored
    images = torch.cat([task.test.images(slice(0, 12)) for task in STREAM])
    wanted = infer_each(model, matrix, images, extras=extras)
    with Engine(folder / name, model=model) as engine:
        answers = engine.predict(images.numpy()).result()
        given = engine.predict(images[:2].numpy(), ["task-1", "task-0"]).result()
    assert [answer.task for answer in answers] == [matrix.names[row] for row in wanted.tasks]
    assert np.mean(wanted.tasks == np.repeat([0, 1], 12)) > 0.6
    assert [answer.task for answer in given] == ["task-1", "task-0"]


@pytest.mark.parametrize("name", ["tasks.bank", "tasks.shard", "tasks"])
def test_masks_of_other_weights_are_refused(stored, name, tmp_path):
    folder, model, matrix, extras = stored
    other = _model(seed=1)
    found = model.backbone().fingerprint
    says = f"bank: expected masks on weights of fingerprint {other.backbone().fingerprint}, .*, found those on {found}"
    with pytest.raises(errors.BackboneError, match=says):
        Engine(folder / name, model=other)
    with open_source(folder / name) as source, pytest.raises(errors.BackboneError, match=says):
        MaskServer(other, source)
    with MaskBank.create(tmp_path / "uniform.bank", model.spec, meta=model.bank_meta()) as bank:
        bank.put("task-0", matrix[0], extras=extras["task-0"])
    with pytest.raises(errors.BackboneError, match=says):  # the masks say nothing of weights
        Engine(tmp_path / "uniform.bank", model=other)
    earlier = {key: value for key, value in model.bank_meta().items() if key != "backbone"}
    with MaskBank.create(tmp_path / "earlier.bank", model.spec, meta=earlier) as bank:
        bank.put("task-0", matrix[0], extras=extras["task-0"])
    Engine(tmp_path / "earlier.bank", model=model).close()
    Engine(tmp_path / "uniform.bank", model=_model().half()).close()  # the same weights, rounded


def test_a_network_without_masks_is_refused(stored):
    with pytest.raises(ArgumentTypeError, match=r"found Sequential; convert\(module\) makes one"):
        Engine(stored[0] / "tasks.bank", model=nn.Sequential(nn.Linear(64, 10)))

"""Streams: what each task shows, that it follows from the seed alone, and that batches are served alike."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskstore.errors import MaskStoreError
from maskstore.philox import Role, random_permutation
from supsup_models.data import Split, TaskStream, load_data_set, open_stream, stream_names
from supsup_models.errors import StreamLengthError, UnknownStreamError

ON_DIGITS = [name for name in stream_names() if name.endswith("digits")]
DIGITS = load_data_set("digits")


def normalised(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((pixels / DIGITS.levels - DIGITS.mean) / DIGITS.std).float()


@pytest.mark.parametrize("name", ON_DIGITS)
def test_what_every_stream_promises(name: str) -> None:
    stream = open_stream(name)
    state = torch.get_rng_state()
    assert stream.inputs == 64
    for position, task in enumerate(stream):
        assert (task.index, task.name) == (position, f"task-{position}")
        assert task.classes == len(task.global_labels) <= stream.classes
        for split in (task.train, task.test):
            images = split.images(slice(None))
            assert images.shape == (len(split), 64)
            assert images.dtype == torch.float32
            assert split.labels.dtype == torch.int64
            assert split.labels.unique().tolist() == list(range(task.classes))
    assert torch.equal(torch.get_rng_state(), state)
    assert json.loads(json.dumps(stream.to_json()))["tasks"] == len(stream)
    assert stream.description().startswith(f"{name}: {len(stream)} tasks")


@pytest.mark.parametrize("name", ON_DIGITS)
@given(data=st.data())
def test_a_batch_is_rows_of_the_whole(name: str, data: st.DataObject) -> None:
    split = STREAMS[name][data.draw(st.integers(0, 4))].test
    whole = split.images(slice(None))
    indices = torch.tensor(data.draw(st.lists(st.integers(0, len(split) - 1), max_size=9)), dtype=torch.int64)
    assert torch.equal(split.images(indices), whole[indices])
    start, stop = data.draw(st.integers(-400, 400)), data.draw(st.integers(-400, 400))
    step = data.draw(st.integers(1, 5))
    assert torch.equal(split.images(slice(start, stop, step)), whole[start:stop:step])


STREAMS = {name: open_stream(name) for name in ON_DIGITS}


@given(seed=st.integers(0, 2**64 - 1), index=st.integers(0, 2499))
def test_permuted_tasks_follow_from_seed_and_index(seed: int, index: int) -> None:
    task = open_stream("permuted-digits", tasks=2500, seed=seed)[index]
    permutation = random_permutation(seed, Role.PERMUTATION, 64, stream=index)
    torch.testing.assert_close(task.test.images(slice(7)), normalised(DIGITS.test.images[:7, permutation]))
    assert torch.equal(task.train.labels, torch.from_numpy(DIGITS.train.labels))


def test_permuted_tasks_differ_and_the_first_is_permuted_too() -> None:
    stream = open_stream("permuted-digits", tasks=6)
    first_images = [task.train.images(slice(1)) for task in stream]
    as_stored = normalised(DIGITS.train.images[:1])
    assert all(not torch.allclose(a, b) for i, a in enumerate(first_images) for b in [as_stored, *first_images[:i]])
    assert open_stream("permuted-digits", seed=1).to_json() != open_stream("permuted-digits", seed=2).to_json()


def test_permutations_are_pinned() -> None:  # a stored bank is useless if the tasks it was trained for change
    columns = open_stream("permuted-digits", seed=0)[0].train.columns
    assert columns is not None
    assert columns[:8].tolist() == [18, 58, 26, 44, 37, 57, 48, 6]


def test_rotated_tasks_turn_by_ten_degrees() -> None:
    stream = open_stream("rotated-digits")
    assert len(stream) == 36
    upright = DIGITS.test.images.reshape(-1, 8, 8)
    for quarters in range(4):
        turned = np.rot90(upright, quarters, axes=(1, 2)).reshape(-1, 64)
        torch.testing.assert_close(stream[9 * quarters].test.images(slice(None)), normalised(turned))
    assert not torch.equal(stream[1].test.images(slice(9)), stream[0].test.images(slice(9)))


def test_rotated_tasks_may_be_used_in_any_order() -> None:
    one, two = STREAMS["rotated-digits"][1].test, STREAMS["rotated-digits"][2].test
    before = one.images(slice(None))
    two.images(slice(None))
    assert torch.equal(one.images(slice(None)), before)


def test_split_tasks_are_pairs_of_classes_with_local_labels() -> None:
    stream = open_stream("split-digits")
    assert (len(stream), stream.classes) == (5, 2)
    assert [task.global_labels for task in stream] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    for task in stream:
        rows = np.isin(DIGITS.train.labels, task.global_labels)
        torch.testing.assert_close(task.train.images(slice(None)), normalised(DIGITS.train.images[rows]))
        assert torch.tensor(task.global_labels)[task.train.labels].tolist() == DIGITS.train.labels[rows].tolist()


def test_a_stream_is_a_sequence() -> None:
    stream = open_stream("split-digits", tasks=3)
    assert len(stream) == 3
    assert stream[-1].index == 2
    assert [task.index for task in stream[1:]] == [1, 2]
    with pytest.raises(IndexError):
        stream[3]


def test_a_batch_belongs_to_its_receiver() -> None:
    for name in ON_DIGITS:
        split = STREAMS[name][0].test
        before = split.images(slice(5)).clone()
        split.images(slice(5)).zero_()
        assert torch.equal(split.images(slice(5)), before)


@pytest.mark.parametrize("name", ON_DIGITS)
@pytest.mark.parametrize("bad", [-1, 100_000])
def test_indices_beyond_a_split_are_refused(name: str, bad: int) -> None:
    with pytest.raises(IndexError):
        STREAMS[name][0].train.images(torch.tensor([0, bad]))


@pytest.mark.parametrize(
    ("name", "tasks", "limit"),
    [
        ("split-digits", 6, "5"),
        ("rotated-digits", 37, "36"),
        ("permuted-digits", 0, "4294967296"),
        ("split-mnist", -1, "5"),
    ],
)
def test_more_tasks_than_a_stream_has(name: str, tasks: int, limit: str) -> None:
    with pytest.raises(StreamLengthError, match=f"{name}: expected 1 to {limit} tasks, found {tasks}"):
        open_stream(name, tasks=tasks)


def test_bad_names_and_seeds_are_refused_at_once() -> None:
    with pytest.raises(UnknownStreamError, match="did you mean 'permuted-digits'"):
        open_stream("permuted-digit")
    with pytest.raises(MaskStoreError, match="seed"):
        open_stream("permuted-digits", seed=-1)


def test_moving_a_split_changes_nothing_but_the_device() -> None:
    for name in ON_DIGITS:
        split = STREAMS[name][1].test
        moved = split.to("cpu")
        assert isinstance(moved, Split)
        assert torch.equal(moved.images(slice(None)), split.images(slice(None)))
        assert torch.equal(moved.labels, split.labels)


@pytest.mark.gpu
def test_batches_are_the_same_on_a_gpu() -> None:
    for name in ON_DIGITS:
        split = STREAMS[name][1].test
        moved = split.to("cuda")
        indices = torch.tensor([3, 1, 4, 1, 5])
        assert moved.images(indices.cuda()).device.type == "cuda"
        torch.testing.assert_close(moved.images(indices.cuda()).cpu(), split.images(indices))


@pytest.fixture(scope="module")
def mnist() -> dict[str, TaskStream]:
    return {kind: open_stream(f"{kind}-mnist") for kind in ("permuted", "rotated", "split")}


@pytest.mark.mnist
def test_mnist_streams(mnist: dict[str, TaskStream]) -> None:
    for stream in mnist.values():
        assert stream.inputs == 784
    permuted = mnist["permuted"][3]
    assert (len(permuted.train), len(permuted.test)) == (60000, 10000)
    images = permuted.train.images(slice(None))
    assert abs(float(images.mean())) < 1e-3
    assert abs(float(images.std()) - 1) < 1e-3
    batch = torch.arange(0, 60000, 469)
    assert torch.equal(permuted.train.images(batch), images[batch])
    assert mnist["permuted"][0].test.labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.mnist
def test_mnist_classes_and_turns(mnist: dict[str, TaskStream]) -> None:
    assert [len(task.train) for task in mnist["split"]] == [12665, 12089, 11263, 12183, 11800]
    assert [len(task.test) for task in mnist["split"]] == [2115, 2042, 1874, 1986, 1983]
    upright = mnist["rotated"][0].test.images(slice(50)).view(-1, 28, 28)
    on_its_side = mnist["rotated"][9].test.images(slice(50)).view(-1, 28, 28)
    assert torch.equal(on_its_side, upright.rot90(1, (1, 2)))

"""Names of streams: complete, forgiving in what they suggest, and free of torch."""

import pytest

from supsup_models.data import load_data_set, parse_stream_name, stream_names
from supsup_models.data.names import DATA_SETS, stream_length
from supsup_models.errors import StreamLengthError, SupSupError, UnknownDataSetError, UnknownStreamError
from tests.helpers.commands import in_fresh_process


def test_every_kind_over_every_data_set() -> None:
    assert len(stream_names()) == 23
    assert {parse_stream_name(name)[1] for name in stream_names()} == {*DATA_SETS, "imagenet", "mnist+fashion-mnist"}
    assert parse_stream_name("split-fashion-mnist") == ("split", "fashion-mnist")
    assert {name for name in stream_names() if "cifar" in name or "imagenet" in name} == {
        "split-cifar-100",
        "split-imagenet",
    }


def test_lengths_need_no_data() -> None:
    lengths = {name: stream_length(name) for name in stream_names() if name.endswith(("digits", "100", "imagenet"))}
    assert lengths == {
        "permuted-digits": 10,
        "rotated-digits": 36,
        "split-digits": 5,
        "split-cifar-100": 20,
        "split-imagenet": 100,
        "transformed-digits": 16,
        "patched-digits": 10,
    }
    assert stream_length("permuted-mnist", 2500) == 2500
    two = {name: stream_length(name) for name in stream_names() if name.endswith("mnist+fashion-mnist")}
    assert {name.partition("-")[0]: length for name, length in two.items()} == {
        "permuted": 10, "rotated": 72, "split": 10, "transformed": 32, "patched": 10, "datasets": 2,
    }  # fmt: skip
    with pytest.raises(StreamLengthError, match="split-cifar-100: expected 1 to 20 tasks, found 21"):
        stream_length("split-cifar-100", 21)
    with pytest.raises(StreamLengthError, match="found 0"):
        stream_length("permuted-mnist", 0)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("permuted-mnst", "permuted-mnist"),
        ("Permuted_MNIST", "permuted-mnist"),
        ("rotate-digits", "rotated-digits"),
        ("splitmnist", "split-mnist"),
        ("permuted fashion mnist", "permuted-fashion-mnist"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name_and_all_names(typo: str, meant: str) -> None:
    with pytest.raises(UnknownStreamError, match=f"did you mean '{meant}'") as caught:
        parse_stream_name(typo)
    assert all(name in str(caught.value) for name in stream_names())
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, SupSupError)
    assert isinstance(caught.value, ValueError)


def test_a_name_like_no_other_gets_the_list_alone() -> None:
    with pytest.raises(UnknownStreamError, match=r"expected one of permuted-digits, .*'xyzzy'") as caught:
        parse_stream_name("xyzzy")
    assert "did you mean" not in str(caught.value)
    with pytest.raises(UnknownDataSetError, match="did you mean 'mnist'"):
        load_data_set("minst")


def _loads_torch(statement: str) -> bool:
    code = f"import sys; {statement}; sys.exit(42 if 'torch' in sys.modules else 0)"
    return_code = in_fresh_process(code).returncode
    assert return_code in (0, 42)
    return return_code == 42


@pytest.mark.slow
def test_listing_streams_loads_no_torch() -> None:
    assert not _loads_torch("from supsup_models.data import stream_names, parse_stream_name; stream_names()")


@pytest.mark.slow
def test_opening_streams_does_load_torch() -> None:  # so the test above can fail
    assert _loads_torch("from supsup_models.data import open_stream")


def test_the_package_knows_its_names_and_no_others() -> None:
    import supsup_models.data as package

    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'open_steam'"):
        _ = package.open_steam

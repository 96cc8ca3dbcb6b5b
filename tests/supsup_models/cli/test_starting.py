"""Imports without the collector: it is on again afterwards, and nobody who has turned it off is overruled."""

import gc

import pytest

from supsup_models.cli.starting import uncollected


@pytest.fixture(autouse=True)
def as_before():
    yield
    gc.enable()
    gc.unfreeze()


def test_inside_nothing_is_collected_and_afterwards_it_is_again():
    inside = []

    def imports() -> None:
        with uncollected():
            inside.append(gc.isenabled())
            import no_such_module  # noqa: F401

    with pytest.raises(ImportError):
        imports()
    assert inside == [False]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    with uncollected():
        assert not gc.isenabled()
    assert not gc.isenabled()
    assert gc.get_freeze_count() == 0

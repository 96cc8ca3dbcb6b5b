"""Kernels share their work among threads in pieces: the result is the whole, and the same on any number of cores."""

import os
import threading
import weakref

import numpy as np
import pytest

from maskstore.kernels import dispatch, reference, threads
from maskstore.masks.interleave import Interleaved
from tests.helpers.commands import in_fresh_process


def masks_and_values(count: int, words: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(count + words)
    rows = rng.integers(0, 2**64, size=(count, words), dtype=np.uint64)
    masks = Interleaved.of(rows)
    return (masks.blocks, masks.tail), rng.standard_normal(64 * words).astype(np.float32)


def one_layer(words: int) -> np.ndarray:
    return np.array([(0, 0, 64 * words)])


SHAPES = [(16, 8), (17, 9), (79, 200), (16, 20_000), (64, 9001), (2100, 20), (1023, 300), (1024, 64), (2049, 130)]


@pytest.mark.parametrize(("count", "words"), [*SHAPES, (20, 7), (15, 1025), (1039, 3)])
def test_dot_products_in_pieces_are_whole(count, words):
    (arrays, g), layers = masks_and_values(count, words), one_layer(words)
    np.testing.assert_allclose(
        dispatch.dot(*arrays, g, layers), reference.dot(*arrays, g, layers), rtol=1e-5, atol=1e-5 * np.sqrt(64 * words)
    )


@pytest.mark.parametrize(("count", "words"), [(64, 9001), (2100, 500)])
def test_results_do_not_depend_on_the_number_of_cores(count, words, monkeypatch):
    (arrays, g), layers = masks_and_values(count, words), one_layer(words)
    alpha = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(threads, "CORES", cores)
        found.append((dispatch.dot(*arrays, g, layers), dispatch.weighted_sum(*arrays, alpha)))
    for dots, sums in found[1:]:
        np.testing.assert_array_equal(dots, found[0][0])
        np.testing.assert_array_equal(sums, found[0][1])


@pytest.mark.parametrize("cores", [1, 3])
def test_every_piece_is_done_once(cores, monkeypatch):
    monkeypatch.setattr(threads, "CORES", cores)
    done: list[int] = []
    threads.share_work(done.append, [(i,) for i in range(200)], work=1 << 30)
    assert sorted(done) == list(range(200))


@pytest.mark.parametrize("in_helper", [False, True])
def test_a_failing_piece_is_the_callers_error(in_helper, monkeypatch):
    monkeypatch.setattr(threads, "CORES", 2)
    caller, helper_failed = threading.get_ident(), threading.Event()

    def kernel(_):
        if (threading.get_ident() != caller) == in_helper:
            helper_failed.set()
            raise FloatingPointError("no such number")
        helper_failed.wait(10)

    with pytest.raises(FloatingPointError, match="no such number"):
        threads.share_work(kernel, [(0,), (1,)], work=1 << 30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_needs_no_helpers(monkeypatch):
    monkeypatch.setattr(threads, "CORES", 3)
    (arrays, g), layers = masks_and_values(64, 9001), one_layer(9001)
    expected = dispatch.dot(*arrays, g, layers)  # starts the helpers that the child does not have
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(dispatch.dot(*arrays, g, layers), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


INTERRUPTED = """
import sys, threading, time
from itertools import count
from maskstore.kernels import threads
threads.CORES = 2

def interrupted_at(step):
    steps = count()
    def trace(frame, event, arg):
        if frame.f_code.co_filename != "<string>" and next(steps) == step:
            raise KeyboardInterrupt
        return trace
    sys.settrace(trace)
    try:
        threads.share_work(time.sleep, [(0.002,)] * 3, work=1 << 30)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False

moments = 0
while interrupted_at(moments):
    moments += 1
both = threading.Barrier(2)
threads.share_work(lambda _: both.wait(20), [(0,), (1,)], work=1 << 30)
print(moments > 20)
"""


@pytest.mark.slow
def test_after_an_interrupt_at_any_moment_helpers_go_on_helping():
    found = in_fresh_process(INTERRUPTED)
    assert (found.stdout, found.stderr) == ("True\n", "")


def test_help_that_was_dismissed_holds_nothing(monkeypatch):
    """While the only helper is busy elsewhere, what others asked of it and did without it must not pile up."""
    monkeypatch.setattr(threads, "CORES", 2)
    started, over = threading.Event(), threading.Event()

    def busy():
        started.set()
        over.wait(20)

    threads._forget_helpers()
    helper = threads.Helper(busy)
    threads.ask([helper])
    assert started.wait(20)
    array = np.zeros(3)
    held = weakref.ref(array)
    threads.share_work(array.__setitem__, [(0, 1.0), (1, 2.0)], work=1 << 30)
    del array
    assert held() is None
    over.set()
    helper.dismiss(wait=True)


AFTER_MAIN = """
import threading
import weakref
from maskstore.kernels import threads
threads.CORES = 2
done = []
def late():
    threading.main_thread().join()
    threads.share_work(done.append, [(i,) for i in range(20)], work=1 << 30)
    print(sorted(done) == list(range(20)))
threading.Thread(target=late).start()
"""


@pytest.mark.slow
def test_a_thread_that_outlives_the_main_one_works_without_helpers():
    found = in_fresh_process(AFTER_MAIN)
    assert (found.stdout, found.stderr) == ("True\n", "")


def test_without_threads_the_caller_does_all_the_work(monkeypatch):
    def no_thread(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "CORES", 4)
    monkeypatch.setattr(threads, "start_new_thread", no_thread)
    threads._forget_helpers()
    done: list[int] = []
    threads.share_work(done.append, [(i,) for i in range(20)], work=1 << 30)
    assert done == list(range(20))


@pytest.mark.parametrize(("count", "pieces", "step"), [(0, 4, 1), (1, 4, 8), (10, 3, 1), (100, 7, 16), (64, 64, 64)])
def test_ranges_cover_without_overlap(count, pieces, step):
    found = threads.ranges(count, pieces, step)
    assert [i for first, last in found for i in range(first, last)] == list(range(count))
    assert all(first % step == 0 for first, _ in found)

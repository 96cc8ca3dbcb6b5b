"""Banks and child processes: nobody is stale, nobody harms the other, and what cannot be right is refused by name."""

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from maskstore import MaskBank, MaskSpec
from maskstore.errors import BankBusyError
from tests.helpers.masks import random_mask

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # from Python 3.12
]
SPEC = MaskSpec({"a": (30, 40)})


def _mask(n):
    return random_mask(SPEC, 0.3, n)


@pytest.fixture
def bank(tmp_path):
    with MaskBank.create(tmp_path / "a.bank", SPEC) as opened:
        opened.put("t0", _mask(0))
        yield opened


class Child:
    """A forked child that answers each question with what `work` returns, or with the name of its error."""

    def __init__(self, work):
        (asked, self.ask), (self.answers, answer) = os.pipe(), os.pipe()
        self.process = os.fork()
        if self.process:
            os.close(asked)
            os.close(answer)
            return
        try:
            while os.read(asked, 1) == b"?":
                try:
                    found = work()
                except Exception as error:
                    found = type(error).__name__
                os.write(answer, f"{found}\n".encode())
        finally:
            os._exit(0)

    def __call__(self):
        os.write(self.ask, b"?")
        return os.read(self.answers, 1000).decode().strip()

    def end(self):
        os.write(self.ask, b".")  # a later child may have this pipe open too: its end is not the child's
        os.close(self.ask)
        os.close(self.answers)
        os.waitpid(self.process, 0)


def _names(bank):
    return lambda: " ".join(name for name, mask in bank.masks() if mask == _mask(int(name[1:])))


@pytest.mark.parametrize("threads", [0, 2])
def test_children_of_a_reader_see_what_others_write(bank, threads):
    reader, stop = MaskBank.open(bank.path), threading.Event()
    busy = [
        threading.Thread(target=lambda: [list(reader.masks()) for _ in iter(stop.is_set, True)]) for _ in range(threads)
    ]
    assert _names(reader)() == "t0"  # also compiles: a fork in the middle of that is another matter
    for thread in busy:
        thread.start()
    children = [Child(_names(reader)) for _ in range(3)]
    for n in range(1, 4):
        bank.put(f"t{n}", _mask(n))
        expected = " ".join(f"t{i}" for i in range(n + 1))
        assert {child() for child in children} == {_names(reader)()} == {expected}
        if n == 2:
            stop.set()
            for thread in busy:
                thread.join()
            bank.close()
            assert {child() for child in children} == {expected}
            reader.close()  # the parent is gone; its children go on
            bank, reader = MaskBank.open(bank.path, "a"), MaskBank.open(bank.path)
    for child in children:
        child.end()
    reader.close()
    bank.close()


_WRITER = """
import sys
from maskstore import MaskBank
from tests.helpers.masks import random_mask
with MaskBank.open(sys.argv[1], "a") as bank:
    for n in map(int, sys.argv[2:]):
        bank.put(f"t{n}", random_mask(bank.spec, 0.3, n))
"""


@pytest.mark.slow
def test_a_child_goes_on_when_its_parent_closed_and_another_process_writes(bank):
    """SQLite in the child must not believe that it holds the parent's locks: the log would be deleted under it."""
    reader = MaskBank.open(bank.path)
    child = Child(_names(reader))
    assert child() == "t0"
    reader.close()
    bank.close()
    for n in range(1, 4):
        subprocess.run([sys.executable, "-c", _WRITER, bank.path, str(n)], check=True, timeout=120)
        assert child() == " ".join(f"t{i}" for i in range(n + 1))
    child.end()


def test_a_child_cannot_write_through_its_parents_bank(bank):
    child = Child(lambda: bank.put("t1", _mask(1)))
    assert child() == "BankThreadError"
    child.end()
    bank.put("t1", _mask(1))
    assert list(bank) == ["t0", "t1"]


def test_a_child_that_opens_the_bank_itself_writes_in_turn(bank):
    def put():
        with MaskBank.open(bank.path, "a") as own:
            own.put(f"t{len(own)}", _mask(len(own)))
            return len(own)

    child = Child(put)
    for n in range(1, 4):
        assert child() == str(2 * n)
        bank.put(f"t{2 * n}", _mask(2 * n))
    child.end()
    assert bank.verify() == 7
    assert _names(bank)().split() == [f"t{n}" for n in range(7)]


def test_a_fork_inside_a_transaction_harms_nobody(bank):
    """The child leaves the block as well: it must not end, unlock or roll back what is its parent's."""
    with bank.transaction():
        for n in range(1, 40):
            bank.put(f"t{n}", _mask(n))
        for work in (
            lambda: bank.put("child", _mask(0)),
            lambda: list(bank),
            lambda: MaskBank.open(bank.path),
            lambda: bank.close(),
            lambda: gc.collect() * 0,
        ):
            child = Child(work)
            assert child() in ("BankThreadError", "None", "0")
            child.end()
            with pytest.raises(BankBusyError):  # the parent's lock is still there
                MaskBank.open(bank.path, "a", timeout=0.05)
        bank.put("t40", _mask(40))
    assert bank.verify() == 41
    assert len(_names(bank)().split()) == 41


_LEAVES = """
import os, sys
from maskstore import MaskBank, MaskSpec
from tests.helpers.masks import random_mask
bank = MaskBank.open(sys.argv[1], "a")
try:
    with bank.transaction():
        bank.put("t1", random_mask(bank.spec, 0.3, 1))
        child = os.fork()
        if not child:
            raise KeyboardInterrupt
        os.waitpid(child, 0)
        bank.put("t2", random_mask(bank.spec, 0.3, 2))
except KeyboardInterrupt:
    del bank
    sys.exit(0)  # with everything that Python does at the end
bank.put("t3", random_mask(bank.spec, 0.3, 3))
print(list(bank))
"""


@pytest.mark.slow
def test_a_child_that_leaves_its_parents_transaction_by_an_error_ends_as_usual(bank):
    bank.close()
    done = subprocess.run(
        [sys.executable, "-c", _LEAVES, bank.path], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr) == ("['t0', 't1', 't2', 't3']\n", "")
    with MaskBank.open(bank.path) as opened:
        assert opened.verify() == 4


def test_a_fork_waits_for_threads_that_read(bank):
    """A child of a fork in the middle of a read would find SQLite's own locks taken for ever."""
    bank.close()
    reader, inside, done = MaskBank.open(bank.path), threading.Event(), []

    def read():
        with reader._file.reading() as link:
            link.execute("SELECT count(*) FROM masks").fetchone()
            inside.set()
            time.sleep(0.2)
            done.append(time.monotonic())

    thread = threading.Thread(target=read)
    thread.start()
    inside.wait()
    child = Child(_names(reader))
    assert done
    assert child() == "t0"
    child.end()
    thread.join()
    reader.close()


def _count(path: Path) -> list[str]:
    with MaskBank.open(path) as bank:
        return [name for name, mask in bank.masks() if mask == _mask(int(name[1:]))]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_read_beside_a_writer(bank, method):
    reader = MaskBank.open(bank.path)
    assert len(reader) == 1
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        for n in range(1, 4):
            assert pool.submit(_count, bank.path).result() == list(reader) == [f"t{i}" for i in range(n)]
            bank.put(f"t{n}", _mask(n))
    assert bank.verify() == 4
    reader.close()

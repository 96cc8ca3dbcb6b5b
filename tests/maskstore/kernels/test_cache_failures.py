"""Whatever is wrong with the cache of compiled kernels, the kernel answers, and one line says so."""

import errno
import importlib.util
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numba.core import caching, config

from maskstore import Mask, MaskBank, MaskSpec, kernels
from maskstore.errors import CompilerError
from maskstore.kernels import compiled, notes
from maskstore.kernels.ir import seeded_contexts
from tests.helpers.commands import in_fresh_process

KERNEL = """
from maskstore.kernels import compiled

@compiled
def total(values):
    found = 0
    for value in values:
        found += value
    return found
"""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """What has been said on standard error since the last call."""

    def lines() -> list[str]:
        notes._told.clear()
        return capsys.readouterr().err.splitlines()

    monkeypatch.setattr(notes, "_told", [])
    return lines


@pytest.fixture
def total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, int]]:
    """Sums 1, 2, 3 by a kernel that is imported anew; gives the sum and how many kernels came from the cache."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "kernel.py").write_text(KERNEL)

    def run() -> tuple[int, int]:
        spec = importlib.util.spec_from_file_location("kernel", tmp_path / "kernel.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "kernel", module)
        spec.loader.exec_module(module)
        found = int(module.total(np.arange(4)))
        return found, sum(module.total.stats.cache_hits.values())

    return run


def files(folder: Path, ending: str) -> list[Path]:
    found = list(folder.rglob(f"*{ending}"))
    assert found
    return found


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)


def garbage(path: Path) -> None:
    path.write_bytes(pickle.dumps("another cache") + b"?" * 200)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [cut, emptied, flipped, garbage])
def test_a_damaged_file_is_noted_and_written_again(total, said, tmp_path, damage, ending):
    assert total() == (6, 0)
    assert (total(), said()) == ((6, 1), [])
    for path in files(tmp_path / "cache", ending):
        damage(path)
    assert total() == (6, 0)
    (line,) = said()
    assert "cache of compiled kernels: expected" in line
    assert ending in line
    assert (total(), said()) == ((6, 1), [])


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [folder, pipe, loop])
def test_something_else_in_a_files_place_is_noted(total, said, tmp_path, damage, ending):
    assert total() == (6, 0)
    for path in files(tmp_path / "cache", ending):
        damage(path)
    assert total() == (6, 0)
    assert len(said()) <= 1
    assert total()[0] == 6
    if damage is folder:  # which nothing replaces
        assert len(said()) == 1


@pytest.mark.parametrize("place", ["file", "loop", "/proc/none"])
def test_a_folder_that_cannot_be_written_is_noted(total, said, tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / place))
    assert total() == (6, 0)
    (line,) = said()
    assert "NUMBA_CACHE_DIR" in line
    assert str(tmp_path / place) in line


def test_no_folder_at_all_is_noted(total, said, tmp_path, monkeypatch):
    """In a container where neither the package nor HOME can be written."""

    def refuse(_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refuse)
    assert total() == (6, 0)
    (line,) = said()
    assert line.endswith("kernels are compiled in every run (set NUMBA_CACHE_DIR to a folder for them)")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError(), EOFError()])
def test_a_file_that_cannot_be_written_is_noted(total, said, tmp_path, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", fail)
    assert total() == (6, 0)
    (line,) = said()
    assert str(tmp_path / "cache") in line
    assert (error.args[-1] if error.args else type(error).__name__) in line


def test_other_sources_with_the_same_times_are_another_kernel(total, said, tmp_path):
    """Two processes with different sources share a folder: data of the one under the index of the other."""
    assert total() == (6, 0)
    source, times = tmp_path / "kernel.py", (tmp_path / "kernel.py").stat()
    (index,), (data,) = (files(tmp_path / "cache", ending) for ending in (".nbi", ".nbc"))
    first = index.read_bytes()
    source.write_text(KERNEL.replace("+=", "-="))
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    caching_clear()
    assert total()[0] == -6
    source.write_text(KERNEL)
    index.write_bytes(first)  # the data beside it are now the other kernel's
    caching_clear()
    assert total() == (6, 0)
    assert data.exists()
    assert said() == []


def caching_clear() -> None:
    """What a fresh process would not remember of the sources."""
    from maskstore.kernels import compile_cache

    compile_cache._sources.cache_clear()
    for name in ("_hash_source_file", "_hash_zipped_source_file"):
        if hasattr(caching, name):
            getattr(caching, name).cache_clear()


COMMAND = "import sys; from {package}.cli.app import run_command; sys.exit(run_command(sys.argv[1:]))"
SPEC = MaskSpec({"fc1": (20, 30)})


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    mask = np.random.default_rng(0).random(600) < 0.3
    with MaskBank.create(tmp_path / "b.bank", SPEC) as opened:
        for codec in ("ans", "gap", "raw"):
            opened.put(codec, Mask.from_flat(mask, SPEC), codec=codec)
    np.savez(tmp_path / "m.npz", fc1=mask.reshape(20, 30))
    return tmp_path / "b.bank"


def check_commands(variables: dict[str, str], *lines: tuple[object, ...]) -> None:
    """Each ends well, with one note and nothing else that was not asked for."""
    for package, *arguments in lines:
        done = in_fresh_process(COMMAND.format(package=package), *arguments, **variables)
        assert done.returncode == 0, done.stderr
        assert sum(line.startswith("maskstore: ") for line in done.stderr.splitlines()) == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr


@pytest.mark.slow
def test_commands_work_without_a_cache(bank: Path, tmp_path: Path) -> None:
    nowhere = {"NUMBA_CACHE_DIR": "/dev/null/none", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    check_commands(nowhere, ("maskstore", "get", bank, "ans", "-o", tmp_path / "out.npz"))
    assert np.array_equal(np.load(tmp_path / "out.npz")["fc1"], np.load(tmp_path / "m.npz")["fc1"])


@pytest.mark.slow
def test_commands_work_without_a_compiler(bank: Path, tmp_path: Path) -> None:
    train = ("train", "--stream", "permuted-digits", "--tasks", "1", "--batches", "2", "--recipe", "dense")
    check_commands(
        {"NUMBA_DISABLE_JIT": "1"},
        ("maskstore", "verify", bank),
        ("maskstore", "put", bank, "new", tmp_path / "m.npz"),
        ("maskstore", "stats", bank, "--json"),
        ("supsup_models", *train, "--out", tmp_path / "run"),
    )
    with MaskBank.open(bank) as opened:
        assert opened["new"] == opened["ans"] == opened["raw"] == opened["gap"]


def test_without_a_compiler_the_reference_answers_and_vectors_are_refused(monkeypatch, said):
    monkeypatch.setattr(config, "DISABLE_JIT", 1)
    assert kernels.load(kernels.Kernel.NUMBA) is kernels.load(kernels.Kernel.REFERENCE)
    assert not kernels.has_lookup()
    with pytest.raises(CompilerError, match=r"expected a compiler .* NUMBA_DISABLE_JIT"):
        compiled(lambda a, b: seeded_contexts._high_product(a, b))(np.uint64(1), np.uint64(2))
    assert compiled(lambda a: a + a)(np.uint64(1 << 63)) == 0  # it wraps around, without a warning
    assert len(said()) == 1

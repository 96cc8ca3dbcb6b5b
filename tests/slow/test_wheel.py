"""The wheel, without the tree: it is whole, its types hold for a strict client, and it runs."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from maskstore import MaskBank, MaskSpec, __version__

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
PACKAGES = ("maskstore", "hopfield", "supsup_models")
CLIENT = ROOT / "tests" / "helpers" / "typed_client.py"
SOURCES = ("pyproject.toml", "README.md", "LICENSE")


def run(*words: str | Path, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")} | more
    return subprocess.run([str(word) for word in words], cwd=cwd, env=own, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, for building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copy(ROOT / name, folder / name)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "dist", ".")
    done = run(sys.executable, "-m", "pip", *build, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (folder / "dist").iterdir()
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and the packages of this one below it."""
    folder = tmp_path_factory.mktemp("environment")
    assert run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder).returncode == 0
    (site,) = folder.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def test_the_version_stands_in_one_place_and_is_that_of_the_citation(wheel: Path) -> None:
    assert wheel.name == f"maskstore-{__version__}-py3-none-any.whl"
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert "version" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_module_and_file_of_data_is_in_the_wheel_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        packed = {name for name in opened.namelist() if ".dist-info/" not in name}
    kept = (".py", ".pyi", ".css", ".js")
    own = (
        path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.suffix in kept or path.name == "py.typed"
    )
    assert packed == {path.relative_to(ROOT).as_posix() for path in own}


def test_it_runs_without_the_tree(python: Path, tmp_path: Path) -> None:
    for program in ("maskstore", "supsup_models"):
        done = run(python, "-m", program, "--version", cwd=tmp_path)
        assert done.stdout.endswith(f" {__version__}\n"), done.stderr
    where = run(python, "-c", "import maskstore, hopfield; print(maskstore.__file__, hopfield.__file__)", cwd=tmp_path)
    assert where.stdout.count(str(python.parents[1])) == 2, where.stdout + where.stderr


def test_help_has_examples_and_the_shell_learns_words(python: Path, tmp_path: Path) -> None:
    with MaskBank.create(tmp_path / "a.bank", MaskSpec({"fc": (8,)})) as bank:
        for name in ("birds", "bees", "fish", "b\x1b[2J"):
            bank.put(name, {"fc": [1, 0, 1, 0, 0, 0, 0, 0]})
    for program, command, typed, offered in (
        ("maskstore", "maskstore", "ver", ["verify"]),
        ("maskstore", "maskstore", "get a.bank b", ["bees", "birds"]),
        ("maskstore", "maskstore", "get none.bank b", []),
        ("supsup_models", "supsup", "repro", ["reproduce"]),
        ("supsup_models", "supsup", "reproduce bat", ["batche-psp-curves"]),
    ):
        line = f"{command} {typed}"
        words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        done = run(python, "-m", program, cwd=tmp_path, **words, **{f"_{command.upper()}_COMPLETE": "complete_bash"})
        assert sorted(done.stdout.split()) == offered, (line, done.stderr)
    for program in ("maskstore", "supsup_models"):
        helped = run(python, "-m", program, "--help", cwd=tmp_path).stdout
        assert "Examples:" in helped
        assert "--install-completion" in helped


def test_a_strict_client_has_types(python: Path, tmp_path: Path) -> None:
    client = shutil.copy(CLIENT, tmp_path / "client.py")
    check = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python, client)
    done = run(*check, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    text = CLIENT.read_text()
    (tmp_path / "wrong.py").write_text(text.replace("exist_ok=True", 'exist_ok="yes"').replace("-> float", "-> str"))
    done = run(*check[:-1], tmp_path / "wrong.py", cwd=tmp_path)
    assert done.stdout.count(": error: ") == 2, done.stdout  # an untyped package would say nothing


def test_types_are_missing_where_the_mark_is(python: Path, tmp_path: Path) -> None:
    """The test before this one could not pass without `py.typed`."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    marks = [site / name / "py.typed" for name in PACKAGES]
    (tmp_path / "client.py").write_text("import maskstore\n")
    check = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python, tmp_path / "client.py")
    marks[0].rename(site / "put-away")
    try:
        assert "py.typed" in run(*check, cwd=tmp_path).stdout
    finally:
        (site / "put-away").rename(marks[0])

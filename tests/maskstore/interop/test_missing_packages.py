"""A core install: what needs another package says which, and how to get it."""

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec, errors, open_source
from maskstore.errors import MaskStoreError, MissingPackageError
from maskstore.interop import ShardReader, read_masks, write_safetensors, write_shard
from tests.helpers.commands import in_fresh_process, maskstore
from tests.helpers.foreign_layouts import safetensors_bytes, stored


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    def hide(package: str) -> str:
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)  # how Python marks a module that must not be found
        extra = "models" if package == "torch" else "interop"
        return rf"expected the package {package}, found it not installed \(pip install \"maskstore\[{extra}\]\"\)$"

    return hide


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    with MaskBank.create(tmp_path / "a.bank", MaskSpec({"fc": (3,)})) as opened:
        opened.put("t", {"fc": [1, 0, 1]})
    return tmp_path / "a.bank"


def test_safetensors_is_needed_to_write_and_not_to_read(tmp_path, bank, without, capsys):
    message = without("safetensors")
    with open_source(bank) as source, pytest.raises(MissingPackageError, match=message):
        write_safetensors(source, tmp_path / "a.safetensors")
    assert maskstore("export", str(bank), str(tmp_path / "x.safetensors")) == 1
    assert 'pip install "maskstore[interop]"' in capsys.readouterr().err
    assert not list(tmp_path.glob("*.safetensors"))
    (tmp_path / "m.safetensors").write_bytes(safetensors_bytes({"fc": stored(np.array([True, False]))}))
    assert read_masks(tmp_path / "m.safetensors").tasks[0].mask.ones == 1


def test_fsspec_is_needed_for_urls(tmp_path, bank, without):
    message = without("fsspec")
    with pytest.raises(MissingPackageError, match=message):
        ShardReader("memory://a.shard")
    with open_source(bank) as source:
        with pytest.raises(MissingPackageError, match=message):
            write_shard(source, "memory://a.shard")
        write_shard(source, tmp_path / "a.shard")
    assert maskstore("export", str(bank), "memory://a.shard") == 1


def test_torch_is_needed_for_torch_files(tmp_path, without):
    torch = pytest.importorskip("torch")
    torch.save({"fc": torch.zeros(3)}, tmp_path / "a.pt")
    with pytest.raises(MissingPackageError, match=without("torch")):
        read_masks(tmp_path / "a.pt")
    assert issubclass(MissingPackageError, (MaskStoreError, ImportError))


def test_the_extras_that_are_named_bring_the_packages():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    for extra, packages in errors._EXTRAS.items():
        brought = {re.split(r"[<>=;]", line)[0] for line in project["optional-dependencies"][extra]}
        assert {package.replace("_", "-") for package in packages} <= brought, extra


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [("numcodecs", "maskstore.interop.numcodecs", "interop"), ("torch", "maskstore.torch", "models")],
)
def test_modules_that_need_a_package_say_so(package, module, extra):
    done = in_fresh_process(f"import sys; sys.modules[{package!r}] = None; import {module}")
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith(
        f'{module}: expected the package {package}, found it not installed (pip install "maskstore[{extra}]")'
    )

"""What is found out about one method, and the files that results are kept in."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import maskstore
from maskstore.files.atomic import replacing

PACKAGES = ("numpy", "torch", "bitarray", "zstandard", "pyroaring", "constriction", "imagecodecs", "nncodec")


class LeftOutError(Exception):
    """A method that cannot be measured here; the text says what is missing."""


@dataclass(frozen=True)
class Row:
    """One method on one case. Accuracies are fractions; None is what does not apply."""

    title: str
    group: str
    """"ours", "format" (the paper's masks as others store them), "baseline" or "memory"."""
    parts: Mapping[str, int]
    """Bytes of everything needed to run all tasks, by what they are for."""
    tasks: int
    parameters: int
    """Weights of the network that is masked: the denominator of all bits per parameter."""
    accuracy: float | None = None
    inferred: float | None = None
    task_accuracy: float | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, with the sums."""
        total = sum(self.parts.values())
        bits = 8 * total / (self.tasks * self.parameters)
        return {**asdict(self), "bytes": total, "bits_per_parameter": bits}


class Results:
    """One case's rows in `folder/<name>.json`; a row is found again only under the configuration it was made with.

    The file lists rows in the order of `methods`; rows of methods that are no more are dropped.
    """

    def __init__(self, folder: Path, name: str, methods: Sequence[str]) -> None:
        self.path = folder / f"{name}.json"
        self._methods = methods
        self.rows: dict[str, dict[str, Any]] = read(self.path) if self.path.exists() else {}

    def has(self, method: str, config: Mapping[str, Any]) -> bool:
        """Whether this method was measured under this configuration."""
        return method in self.rows and self.rows[method]["config"] == json.loads(json.dumps(config))

    def put(self, method: str, config: Mapping[str, Any], row: Row, command: str) -> None:
        """Put a row on the disk, with where and how it was made."""
        self.rows[method] = {**row.to_json(), "command": command, "config": dict(config), "made": provenance()}
        self.rows = {name: self.rows[name] for name in self._methods if name in self.rows}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.rows, indent=1, allow_nan=False) + "\n"
        with replacing(self.path, overwrite=True) as scratch:
            scratch.write_text(text)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a results file, by method."""
    content: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return content


def provenance() -> dict[str, Any]:
    """Machine, versions, date and load: what a figure must say about itself."""
    found = {"maskstore": maskstore.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "versions": found,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"

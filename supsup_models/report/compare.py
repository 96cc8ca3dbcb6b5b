"""Other methods' points for the plot of bits against accuracy: from results in JSON, or from other runs.

A result is an object with a list of objects under "rows" or "table", as `supsup reproduce` writes it, or with an object
for each method by name, as the storage benchmark does. A row is a point if it has a "method" (or "title"), an accuracy
("accuracy" or "GG", a fraction) and a size: either "bits_per_parameter", or "bytes" and "tasks", which are then divided
by the parameters of this report's network. Rows of another "stream" (their own, or their "config"'s) are left out, and
counted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from maskstore.files import read_json, typed
from supsup_models.errors import ReportError
from supsup_models.report import wording
from supsup_models.report.facts import RunFacts, read_run
from supsup_models.report.wording import finite, fraction
from supsup_models.runs import record_path

T = TypeVar("T")
_MOST_BYTES = 64 << 20  # a table of results is small; anything above is another kind of file


@dataclass(frozen=True)
class Point:
    """A method, where it lies, and where that is from."""

    method: str
    bits_per_parameter: float
    accuracy: float
    source: str


@dataclass(frozen=True)
class OtherRun:
    """Another run on the same stream: the accuracies of its tasks, each under its own mask, in order."""

    name: str
    method: str
    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class Compared:
    """Points to draw, and how many rows were left out because they are of another stream or lack a figure."""

    points: tuple[Point, ...]
    other_streams: int = 0
    incomplete: int = 0
    runs: tuple[OtherRun, ...] = ()
    """Those of the points that are runs, to be drawn over this one."""


def read_comparisons(paths: Sequence[Path], facts: RunFacts, *, immutable: bool = False) -> Compared:
    """The points of all files and runs, in the order given.

    Raises ReportError for a file that is no result, or has no row that makes a point; RunError for a folder that is
    no run, or has no finished task.
    """
    found = [_of_run(path, facts, immutable) if path.is_dir() else _of_file(path, facts) for path in paths]
    return Compared(
        tuple(point for each in found for point in each.points),
        sum(each.other_streams for each in found),
        sum(each.incomplete for each in found),
        tuple(run for each in found for run in each.runs),
    )


def read_object(path: Path, what: str, make: Callable[[Mapping[str, Any]], T]) -> T:
    """What `make` makes of a file's JSON object, as in `read_json`; ReportError with `what` was expected otherwise."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ReportError(f"{path}: expected {what}, found a file of {path.stat().st_size} bytes")
        return read_json(path, what, lambda content: make(typed(Mapping[str, Any], content, "file")), ReportError)
    except FileNotFoundError:
        raise ReportError(f"{path}: expected {what}, found no such file") from None


def _of_run(folder: Path, facts: RunFacts, immutable: bool) -> Compared:
    other = read_run(folder, immutable=immutable)
    config, stream = other.record.config, facts.record.config.stream
    if config.stream != stream:
        raise ReportError(f"{record_path(folder)}: expected a run on stream {stream}, found one on {config.stream}")
    accuracy, bits = other.accuracy, other.bits_per_parameter
    if accuracy is None or not bits:
        raise ReportError(f"{record_path(folder)}: expected a finished task and its accuracy, found none")
    method = f"{config.model}, {config.recipe}, {wording.plural(len(other.tasks), 'task')}"
    run = OtherRun(other.name, method, tuple(other.accuracies) if other.task_identity else ())
    return Compared((Point(method, bits, accuracy, other.name),), runs=(run,))


def _of_file(path: Path, facts: RunFacts) -> Compared:
    what = 'results with a list of "rows" (or "table")'
    content = read_object(path, what, dict)
    rows = content.get("rows", content.get("table"))
    if rows is None and content and all(isinstance(row, Mapping) for row in content.values()):
        rows = [{"method": row.get("title", name), **row.get("config", {}), **row} for name, row in content.items()]
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ReportError(f"{path}: expected {what}, found {', '.join(map(str, content))[:80] or 'nothing'}")
    parameters = facts.spec.bits if facts.spec else None
    points, other_streams, incomplete = [], 0, 0
    for row in rows:
        if row.get("stream", facts.record.config.stream) != facts.record.config.stream:
            other_streams += 1
            continue
        point = _point(row, parameters, path.stem)
        if point is None:
            incomplete += 1
        else:
            points.append(point)
    if not points:
        raise ReportError(
            f"{path}: expected a row with method, accuracy and bits_per_parameter (or bytes and tasks) for stream "
            f"{facts.record.config.stream}, found {other_streams} rows of other streams and {incomplete} incomplete"
        )
    return Compared(tuple(points), other_streams, incomplete)


def _point(row: Mapping[str, Any], parameters: int | None, source: str) -> Point | None:
    method, accuracy = row.get("method"), fraction(row.get("accuracy", row.get("GG")))
    bits = finite(row.get("bits_per_parameter"))
    if bits is None:
        size, tasks = finite(row.get("bytes")), finite(row.get("tasks"))
        if size is not None and tasks and parameters:
            bits = 8 * size / (tasks * parameters)
    if not isinstance(method, str) or accuracy is None or bits is None or not bits > 0:
        return None
    return Point(method, bits, accuracy, source)

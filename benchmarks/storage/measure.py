"""Fill a suite's results file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from benchmarks.storage.cases import Place
from benchmarks.storage.results import LeftOutError, Results
from benchmarks.storage.suites import Suite


def measure(
    suite: Suite,
    results: Path,
    place: Place,
    methods: Sequence[str] | None = None,
    *,
    again: bool = False,
    tell: Callable[[str], None] = print,
) -> Path:
    """Measure the methods (None: all) whose rows are missing or were made under another configuration.

    With `again` all of them. Each row is on the disk as soon as it is found. The path of the results file.
    """
    found = Results(results, suite.name, list(suite.methods))
    for name in methods or suite.methods:
        method = suite.methods[name]
        config = method.config(suite.case)
        if found.has(name, config) and not again:
            continue
        start = perf_counter()
        try:
            row = method.measure(suite.case, place)
        except LeftOutError as reason:
            tell(f"{suite.name} {reason}")
            continue
        found.put(name, config, row, f"python -m benchmarks.storage {suite.name} {name}")
        tell(f"{suite.name} {name}: measured in {perf_counter() - start:.0f} s")
    return found.path

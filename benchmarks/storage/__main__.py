"""Measure what a results folder lacks: `python -m benchmarks.storage SUITE [METHOD ...]`.

After a change to a codec or to the bank's format, `python -m benchmarks.storage all paper paper-max --again` measures
those rows anew in all suites, from the trained masks in `runs/storage`; after a change to training, delete that folder.
"""

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.storage.cases import DATA_SETS, Place
from benchmarks.storage.columns import table
from benchmarks.storage.measure import measure
from benchmarks.storage.plots import draw
from benchmarks.storage.results import read
from benchmarks.storage.suites import FULL, QUICK, Suite
from supsup_models.errors import DataNotFoundError

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    """Measure, print, plot."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.storage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", choices=["all", *FULL], help="a stream, the memories, the paper's table, or all")
    parser.add_argument("method", nargs="*", help="only these rows, such as paper-max (default: all)")
    parser.add_argument("--again", action="store_true", help="measure rows that are there already, too")
    parser.add_argument("--quick", action="store_true", help="few tasks and batches, digits; needs --results")
    parser.add_argument("--results", type=Path, help="folder of the results (default: benchmarks/results)")
    parser.add_argument("--runs", type=Path, default=Path("runs/storage"), help="folder of the trained masks")
    parser.add_argument("--data", type=Path, help="folder of the data sets (default: where the library looks)")
    options = parser.parse_args()
    if options.quick and options.results is None:
        parser.error("--quick: expected --results, so that small figures never stand among full ones")
    suites, results = QUICK if options.quick else FULL, options.results or RESULTS
    if options.suite not in ("all", *suites):
        parser.error(f"{options.suite}: expected one of {', '.join(suites)} with --quick")
    chosen = [suite for suite in suites.values() if options.suite in ("all", suite.name)]
    known = list(dict.fromkeys(method for suite in chosen for method in suite.methods))
    unknown = [method for method in options.method if method not in known]
    if unknown:
        parser.error(f"{options.suite}: expected methods among {', '.join(known)}, found {', '.join(unknown)}")
    for suite in chosen:  # of all suites, those that have one of the methods
        methods = [method for method in options.method or suite.methods if method in suite.methods]
        if methods:
            _run(suite, results, Place(options.runs, options.data), methods, options.again)
    for data_set in DATA_SETS:
        draw(results, data_set)


def _run(suite: Suite, results: Path, place: Place, methods: list[str], again: bool) -> None:
    console = Console() if Console().is_terminal else Console(width=160)
    try:
        path = measure(suite, results, place, methods, again=again, tell=console.print)
    except DataNotFoundError as error:
        console.print(f"{suite.name}: left out, {error}")
        return
    console.print(table(suite.name, read(path)))


if __name__ == "__main__":
    main()

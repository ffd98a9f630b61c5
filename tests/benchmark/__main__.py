"""Measure everything in one run: `python -m tests.benchmark`. Takes some ten minutes; `--quick` one, to see that it works."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from tests.benchmark import backlog, history, machine, picture, reads, report, resources, waiting

RESULTS = Path(__file__).parents[2] / "docs/benchmarks"
LOG = logging.getLogger("benchmark")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark")
    parser.add_argument("--quick", action="store_true", help="leave out what takes long")
    parser.add_argument("--directory", type=Path, default=RESULTS, help="where the results go (%(default)s)")
    arguments = parser.parse_args()
    LOG.setLevel(logging.INFO)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    results = measure(quick=arguments.quick)
    report.write(results, arguments.directory)
    picture.draw(results.history, results.backlog, arguments.directory / report.PICTURE)
    LOG.info("written to %s", arguments.directory)


def measure(*, quick: bool) -> report.Results:
    described, started = machine.describe(), time.perf_counter()
    LOG.info("start to first scrape")
    starts = resources.measure_start(quick=quick)
    LOG.info("processor time and memory")
    sizes = resources.measure_sizes(quick=quick)
    LOG.info("waiting")
    waited = waiting.measure(quick=quick)
    LOG.info("history")
    over_history = history.measure(quick=quick)
    LOG.info("backlog")
    over_backlog = backlog.measure(quick=quick)
    LOG.info("processor time of a read")
    read = reads.measure(quick=quick)
    return report.Results(
        machine=described,
        took_s=time.perf_counter() - started,
        history=over_history,
        waiting=waited,
        sizes=sizes,
        starts=starts,
        backlog=over_backlog,
        reads=read,
    )


if __name__ == "__main__":
    main()

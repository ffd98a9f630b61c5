"""What the page of the benchmark says where something was not measured."""

from __future__ import annotations

import pytest

from tests.benchmark import reads
from tests.benchmark.report import reads_table

OURS = [
    reads.Row(subject="exporter", path=path, reads=2000, cpu_ms_per_read=cpu_ms, series=10.0, rss_mib=40.0)
    for path, cpu_ms in (("/metrics", 0.25), ("/probe", 0.75))
]
PEER = reads.Row(subject="json_exporter", path="/probe", reads=2000, cpu_ms_per_read=0.5, series=3.0, rss_mib=21.0)


@pytest.mark.parametrize(
    ("rows", "cells"),
    [
        (
            [*OURS, PEER],
            [
                ["exporter", "`/metrics`", "0.25 ms", "**0.50**", "10", "40.0 MiB"],
                ["exporter", "`/probe`", "0.75 ms", "**1.50**", "10", "40.0 MiB"],
                ["json_exporter", "`/probe`", "0.50 ms", "**1.00**", "3", "21.0 MiB"],
            ],
        ),
        (
            OURS,
            [
                ["exporter", "`/metrics`", "0.25 ms", "unmeasured", "10", "40.0 MiB"],
                ["exporter", "`/probe`", "0.75 ms", "unmeasured", "10", "40.0 MiB"],
                ["json_exporter", "`/probe`", "unmeasured", "unmeasured", "unmeasured", "unmeasured"],
            ],
        ),
    ],
    ids=["with json_exporter", "without"],
)
def test_a_read_is_compared_with_json_exporter_s_where_that_was_measured(
    rows: list[reads.Row], cells: list[list[str]]
) -> None:
    lines = reads_table(rows).splitlines()[2:]
    assert [line.strip("| ").split(" | ") for line in lines] == cells

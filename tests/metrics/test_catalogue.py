"""The catalogue keeps to the naming rules, and knows its own metrics from others."""

from __future__ import annotations

import pytest

from exporter.metrics import catalogue


def test_the_catalogue_follows_the_naming_rules() -> None:
    names = [metric.name for metric in catalogue.CATALOGUE]
    assert len(names) == len(set(names))
    for metric in catalogue.CATALOGUE:
        assert metric.name.startswith("managed_agents_")
        assert metric.name.endswith("_total") == (metric.type == "counter")
        assert metric.help.endswith(".")


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ("managed_agents_up", True),
        ("managed_agents_work_run_seconds_bucket", True),
        ("managed_agents_exporter_build_info", False),
        ("process_open_fds", False),
    ],
)
def test_a_series_of_an_environment_is_distinguished_from_the_exporters_own(series: str, *, expected: bool) -> None:
    assert catalogue.of_environment(series) is expected


def test_the_groups_are_the_whole_catalogue() -> None:
    groups = catalogue.QUEUE + catalogue.WORK + catalogue.READING + catalogue.EXPORTER
    assert groups == catalogue.CATALOGUE
    for metric in catalogue.EXPORTER:
        assert not catalogue.of_environment(metric.name)
    assert all(
        metric.labels[:2] == catalogue.ENVIRONMENT_LABELS
        for metric in catalogue.CATALOGUE
        if metric not in catalogue.EXPORTER
    )

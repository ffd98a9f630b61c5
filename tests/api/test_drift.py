"""An unknown value is counted when it is met, not each time it is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.api import drift
from exporter.api.drift import DriftMemory

if TYPE_CHECKING:
    import pytest

LIST, STATS = "/environments/env_1/work", "/environments/env_1/work/stats"


def test_an_item_that_is_listed_again_is_no_news() -> None:
    memory = DriftMemory()
    assert memory.new_fields(LIST, ["state", "state", "data.type"], ["w1", "w2", "w2"]) == [
        "state",
        "state",
        "data.type",
    ]
    assert memory.new_fields(LIST, ["state", "state", "state"], ["w1", "w2", "w3"]) == ["state"]


def test_the_same_id_in_another_environment_is_another_item() -> None:
    memory = DriftMemory()
    memory.new_fields(LIST, ["state"], ["w1"])
    assert memory.new_fields("/environments/env_2/work", ["state"], ["w1"]) == ["state"]


def test_stats_are_news_when_they_begin_to_drift_and_when_they_do_so_again() -> None:
    memory = DriftMemory()
    answers = [["oldest_queued_at"], ["oldest_queued_at"], [], ["oldest_queued_at"], ["depth"]]
    assert [memory.new_fields(STATS, fields, ()) for fields in answers] == [
        ["oldest_queued_at"],
        [],
        [],
        ["oldest_queued_at"],
        ["depth"],
    ]


def test_the_memory_is_bounded_and_forgets_what_was_met_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "EVENTS_LIMIT", 3)
    memory = DriftMemory()
    memory.new_fields(LIST, ["state"] * 3, ["w1", "w2", "w3"])
    assert memory.new_fields(LIST, ["state"] * 2, ["w1", "w4"]) == ["state"]
    assert memory.new_fields(LIST, ["state"] * 2, ["w1", "w2"]) == ["state"]
    assert len(memory._counted) == 3

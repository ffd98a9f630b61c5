"""What a work item is called, how it ends, and how it is written."""

from __future__ import annotations

import re

import pytest

from exporter.simulator.item import History, Item, Outcome, TimestampStyle, parse_work_id, timestamp, work_id

START_AT = 1_780_000_000.0
SALT = 0x1234_5678_9ABC_DEF0


def test_ids_do_not_tell_the_order() -> None:
    ids = [work_id(seq, SALT) for seq in range(20)]
    assert ids != sorted(ids)
    assert ids != sorted(ids, reverse=True)
    assert len(set(ids)) == 20


@pytest.mark.parametrize(("seq", "generation"), [(0, 0), (1, 0), (20, 3), (10**9, 12)])
def test_an_id_leads_back_to_its_item(seq: int, generation: int) -> None:
    name = work_id(seq, SALT, generation)
    assert re.fullmatch(r"work_[0-9a-f]{16}(r[1-9][0-9]*)?", name)
    assert parse_work_id(name, SALT) == (seq, generation)


@pytest.mark.parametrize("text", ["", "work_", "work_12", "work_0123456789abcdeF", "work_0123456789abcdefr0"])
def test_what_never_was_an_id_leads_nowhere(text: str) -> None:
    assert parse_work_id(text, SALT) is None


@pytest.mark.parametrize(
    ("acknowledged_at", "started_at", "outcome"),
    [(None, None, "never_acknowledged"), (1.0, None, "never_started"), (1.0, 2.0, "ran")],
)
def test_an_outcome_is_the_furthest_step(
    acknowledged_at: float | None, started_at: float | None, outcome: Outcome
) -> None:
    item = Item(1, "work_1", "env_a", "session", 0.0, acknowledged_at=acknowledged_at, started_at=started_at)
    assert item.outcome == outcome


def test_finished_history_is_arithmetic() -> None:
    history = History("env_a", SALT, 5, 3, START_AT, spacing_s=10.0, wait_s=1.0, startup_s=2.0, run_s=4.0)
    assert [seq in history for seq in (4, 5, 7, 8)] == [False, True, True, False]
    item = history.item(6)
    assert (item.id, item.state, item.outcome) == (work_id(6, SALT), "stopped", "ran")
    instants = (item.created_at, item.acknowledged_at, item.started_at, item.stopped_at)
    assert instants == (START_AT + 10, START_AT + 11, START_AT + 13, START_AT + 17)


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("micros", "2026-05-28T20:26:40.250000Z"),
        ("millis", "2026-05-28T20:26:40.250Z"),
        ("seconds", "2026-05-28T20:26:40Z"),
        ("nanos", "2026-05-28T20:26:40.250000000Z"),
        ("offset", "2026-05-28T20:26:40.250000+00:00"),
    ],
)
def test_timestamps_can_be_written_in_several_ways(style: TimestampStyle, text: str) -> None:
    assert timestamp(START_AT + 0.25, style) == text

"""A source remembers its last value or its problem, when it is due, and speaks in the log on change alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter.api.client import ApiError, Reading
from exporter.config.model import Config, ScrapeConfig
from exporter.environments.snapshot import Environment, Problem, Queue, ReadTimes
from exporter.environments.source_state import NEVER, SourceState, read_times
from tests.environments.fake_api import STATS, WALL_AHEAD_S, Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = ReadTimes(read_at=1.0, server_at=1.0, monotonic_at=1.0, duration_s=0.1)
QUEUE = Queue(STATS, TIMES)


@pytest.fixture
def around() -> Surroundings:
    return Surroundings(Config(scrape=ScrapeConfig(min_interval_s=10)))


def state_of(around: Surroundings, explain: Callable[[ApiError], str] = str) -> SourceState[Queue]:
    return SourceState("stats", around.context, lambda: Environment(id="env_1", name="one"), explain)


def test_a_source_is_due_when_its_last_read_began_a_minimal_interval_ago(around: Surroundings) -> None:
    state = state_of(around)
    assert state.is_due(5)
    state.begin()
    around.now += 9.9
    assert not state.is_due(5)
    around.now += 0.06  # scrapers are punctual to some milliseconds
    assert state.is_due(5)


def test_a_read_that_was_cut_short_is_due_to_whoever_has_more_time(around: Surroundings) -> None:
    state = state_of(around)
    state.begin()
    around.now += 2
    assert str(state.cut_short()) == "no answer before the scrape's deadline"
    assert not state.is_due(2)
    assert state.is_due(2.1)


def test_a_read_that_the_budget_did_not_allow_keeps_what_is_known_and_is_due_again(around: Surroundings) -> None:
    state = state_of(around)
    state.succeed(QUEUE)
    state.begin()
    state.skip()
    state.end()
    assert state.is_due(5)
    assert state.shown(late=True) is QUEUE


def test_a_value_is_hidden_from_whoever_waited_for_a_newer_one_in_vain(around: Surroundings) -> None:
    state = state_of(around)
    state.succeed(QUEUE)
    state.begin()
    assert state.shown(late=True) is None
    assert state.shown(late=False) is QUEUE
    state.end()
    assert state.shown(late=True) is QUEUE


def test_a_failure_takes_the_value_and_says_since_when(around: Surroundings) -> None:
    state = state_of(around, lambda failed: f"explained: {failed}")
    state.succeed(QUEUE)
    state.fail(ApiError("server", "the API answered 500", status=500, request_id="req_1"))
    since = WALL_AHEAD_S + around.now
    assert state.problem == Problem("server", "explained: the API answered 500", since, 500, "req_1")
    assert (state.value, state.shown(late=False)) == (None, None)
    around.now += 60
    state.fail(ApiError("auth", "refused"))
    assert state.problem == Problem("auth", "explained: refused", since)
    assert around.failed == [("stats", "server"), ("stats", "auth")]


def test_a_429_keeps_the_value_and_is_known_as_the_reason(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    state = state_of(around)
    state.succeed(QUEUE)
    state.fail(ApiError("rate_limited", "the API answered 429", status=429))
    assert state.shown(late=False) is QUEUE
    assert state.problem == Problem("rate_limited", "the API answered 429", WALL_AHEAD_S + around.now, 429)
    assert around.failed == [("stats", "rate_limited")]
    assert caplog.records == []


def test_a_429_after_a_failure_brings_no_number_back(around: Surroundings) -> None:
    state = state_of(around)
    state.succeed(QUEUE)
    state.fail(ApiError("server", "the API answered 500"))
    state.fail(ApiError("rate_limited", "the API answered 429"))
    assert state.shown(late=False) is None


def test_the_log_speaks_when_a_failure_begins_changes_or_ends(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    state = state_of(around)
    state.succeed(QUEUE)
    for reason in ("server", "server", "auth", "auth"):
        state.fail(ApiError(reason, "failed"))
    state.succeed(QUEUE)
    state.succeed(QUEUE)
    assert [record.getMessage() for record in caplog.records] == ["read_failed", "read_failed", "read_recovered"]


def test_a_try_is_remembered_only_where_a_call_was_sent(around: Surroundings) -> None:
    state = state_of(around)
    state.begin()
    with state.recording_calls(around.api):  # type: ignore[arg-type]  # WorkApi's face
        pass
    assert state.tried_at == NEVER
    with state.recording_calls(around.api):  # type: ignore[arg-type]  # as above
        around.api.sent_by_source["stats"] += 1
    assert state.tried_at == state.began_at == around.now


def test_a_read_took_place_when_its_last_answer_came() -> None:
    times = read_times(10.0, Reading(STATS, 1000.12345, 2.0), 12.5)
    assert times == replace(TIMES, read_at=1000.123, server_at=1002.12345, monotonic_at=12.5, duration_s=2.5)

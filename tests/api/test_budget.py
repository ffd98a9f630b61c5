"""The budget is never overdrawn, spends on what is worth most, and waits out a refusal. No real time passes here."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.api.budget import Budget, Priority

MIN_INTERVAL_S = 10.0


def new_budget(*, per_minute: int = 120, now: float = 0.0, jitter: float = 0.5) -> Budget:
    return Budget(per_minute=per_minute, min_interval_s=MIN_INTERVAL_S, now=now, jitter=lambda: jitter)


def drained(budget: Budget, now: float) -> int:
    """Take stats' tokens until none is left; return how many there were."""
    taken = 0
    while budget.take(Priority.STATS, environment_id=None, now=now):
        taken += 1
    return taken


def most_in_a_window(instants: list[float], window_s: float) -> int:
    most, first = 0, 0
    for last, at in enumerate(instants):
        while instants[first] <= at - window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


# ---- tokens


@pytest.mark.parametrize(("per_minute", "burst"), [(1, 1), (2, 1), (3, 1), (120, 60), (1_000_000, 500_000)])
def test_the_burst_is_half_a_minute_s_calls_and_at_least_one(per_minute: int, burst: int) -> None:
    assert drained(new_budget(per_minute=per_minute), 0.0) == burst


def test_tokens_come_back_at_the_rate_and_never_above_the_burst() -> None:
    budget = new_budget(per_minute=120)
    drained(budget, 0.0)
    assert drained(budget, 0.4) == 0
    assert drained(budget, 0.6) == 1
    assert drained(budget, 10.6) == 20
    assert budget.available(3600.0) == 60


def test_a_budget_of_one_a_minute_is_one_call_a_minute() -> None:
    budget = new_budget(per_minute=1)
    calls = [now for now in range(601) if budget.take(Priority.STATS, environment_id=None, now=float(now))]
    assert calls == list(range(0, 601, 60))


def test_a_clock_that_stands_still_yields_nothing() -> None:
    budget = new_budget()
    drained(budget, 5.0)
    assert drained(budget, 5.0) == drained(budget, 4.0) == 0


@given(
    per_minute=st.integers(1, 600),
    asked=st.lists(
        st.tuples(st.floats(0, 5), st.sampled_from(Priority), st.integers(0, 3), st.booleans()),
        min_size=1,
        max_size=120,
    ),
    refusals=st.lists(st.tuples(st.integers(0, 119), st.none() | st.floats(0, 400)), max_size=3),
)
def test_no_window_ever_sees_more_than_the_budget_and_the_burst(
    per_minute: int, asked: list[tuple[float, Priority, int, bool]], refusals: list[tuple[int, float | None]]
) -> None:
    budget, now, calls = new_budget(per_minute=per_minute), 0.0, []
    for position, (passed_s, spend, environment, new_scrape) in enumerate(asked):
        now += passed_s
        if new_scrape:
            budget.register_demand([f"env_{number}" for number in range(4)], now=now)
        for retry_after_s in (wait for at, wait in refusals if at == position):
            budget.rate_limited(retry_after_s, now=now)
        calls += [now for _ in range(40) if budget.take(spend, environment_id=f"env_{environment}", now=now)]
    burst = max(1.0, per_minute / 2)
    for window_s in (1.0, 10.0, 60.0, 600.0):
        assert most_in_a_window(calls, window_s) <= burst + per_minute * window_s / 60 + 1e-6


def test_a_smaller_budget_holds_at_once_and_a_larger_one_has_to_fill_up() -> None:
    budget = new_budget(per_minute=120)
    budget.configure(per_minute=12, min_interval_s=MIN_INTERVAL_S, now=0.0)
    assert budget.available(0.0) == 6
    budget.configure(per_minute=1_000_000, min_interval_s=MIN_INTERVAL_S, now=0.0)
    assert budget.available(0.0) == 6
    assert budget.limit_per_minute(0.0) == 1_000_000


def test_what_has_accrued_before_a_change_has_accrued_at_the_old_rate() -> None:
    budget = new_budget(per_minute=120)
    drained(budget, 0.0)
    budget.configure(per_minute=1_000_000, min_interval_s=MIN_INTERVAL_S, now=10.0)
    assert budget.available(10.0) == 20


@pytest.mark.parametrize(
    ("min_interval_s", "scrapes_at", "period_s"),
    [
        (10.0, [0.0, 30.0], 30.0),
        (30.0, [0.0, 90.0, 120.0], 30.0),
        (30.0, [0.0, 90.0, 119.0], 90.0),
        (60.0, [0.0, 30.0], 60.0),
        (0.0, [0.0, 30.0, 30.0], 30.0),
    ],
)
def test_scrapes_at_once_or_closer_than_the_minimal_interval_that_holds_now_are_no_period(
    min_interval_s: float, scrapes_at: list[float], period_s: float
) -> None:
    budget = new_budget()
    budget.configure(per_minute=120, min_interval_s=min_interval_s, now=0.0)
    for now in scrapes_at:
        budget.register_demand(["env_a"], now=now)
    assert budget._demand_by_environment["env_a"].period_s == period_s


# ---- worth


def test_what_the_stats_have_just_taken_is_no_longer_kept_for_them() -> None:
    budget = new_budget(per_minute=60)
    budget.register_demand(["env_a", "env_b", "env_c"], now=0.0)
    for environment_id in ("env_b", "env_c"):
        assert budget.take(Priority.STATS, environment_id=environment_id, now=0.0)
    for each in (*[Priority.OPEN_END] * 26, Priority.STATS, Priority.OPEN_END):
        assert budget.take(each, environment_id="env_a", now=0.0)
    assert budget.available(0.0) == 0


def test_the_listing_leaves_a_token_for_every_environment_whose_stats_are_due() -> None:
    budget = new_budget(per_minute=120)
    budget.register_demand([f"env_{number}" for number in range(50)], now=0.0)
    opened = [number for number in range(50) if budget.take(Priority.OPEN_END, environment_id=f"env_{number}", now=0.0)]
    assert (len(opened), drained(budget, 0.0)) == (10, 50)


def test_segments_leave_a_token_for_every_open_end_as_well() -> None:
    budget = new_budget(per_minute=120)
    budget.register_demand([f"env_{number}" for number in range(25)], now=0.0)
    segments = sum(budget.take(Priority.SEGMENT, environment_id="env_0", now=0.0) for _ in range(60))
    assert (segments, drained(budget, 0.0)) == (10, 50)


@pytest.mark.parametrize("spend", [Priority.OPEN_END, Priority.SEGMENT, Priority.BACKFILL])
def test_the_listing_may_spend_what_stats_will_have_back_when_they_fall_due(spend: Priority) -> None:
    budget = new_budget(per_minute=120)
    budget.register_demand(["env_a"], now=0.0)
    for each in (Priority.STATS, Priority.OPEN_END):
        assert budget.take(each, environment_id="env_a", now=0.0)
    assert sum(budget.take(spend, environment_id="env_a", now=0.0) for _ in range(60)) == 58


def test_segments_leave_for_overdue_open_ends_and_not_yet_for_stats_that_fall_due_later() -> None:
    budget, ids = new_budget(per_minute=120), [f"env_{number}" for number in range(25)]
    budget.register_demand(ids, now=0.0)
    for each in ids:
        assert budget.take(Priority.STATS, environment_id=each, now=0.0)
    assert sum(budget.take(Priority.SEGMENT, environment_id="env_0", now=0.0) for _ in range(60)) == 60 - 25 - 25


def test_it_does_not_matter_who_of_the_scraped_is_due_first() -> None:
    budget = new_budget(per_minute=120)
    budget.register_demand(TWENTY, now=0.0)
    for each in TWENTY[:15]:
        assert budget.take(Priority.STATS, environment_id=each, now=0.0)
    assert sum(budget.take(Priority.OPEN_END, environment_id="env_0", now=0.0) for _ in range(60)) == 60 - 15 - 5


def test_stats_that_cannot_all_be_read_within_a_period_fall_due_after_a_whole_round() -> None:
    budget, ids = new_budget(per_minute=120), [f"env_{number}" for number in range(50)]
    budget.register_demand(ids, now=0.0)
    for each in ids:
        assert budget.take(Priority.STATS, environment_id=each, now=0.0)
    round_s = 25.0
    spare = 20 + 120 / 60 * (round_s - 5.0) - 50
    assert sum(budget.take(Priority.OPEN_END, environment_id="env_0", now=5.0) for _ in range(60)) == spare == 10


def test_an_environment_that_nobody_asks_for_reads_with_what_the_others_leave() -> None:
    budget = new_budget(per_minute=120)
    budget.register_demand(["env_a"], now=0.0)
    while budget.available(0.0) > 2:
        assert budget.take(Priority.STATS, environment_id=None, now=0.0)
    assert [budget.take(Priority.OPEN_END, environment_id="env_b", now=0.0) for _ in range(2)] == [True, False]


def test_an_open_end_is_read_only_with_the_segments_that_went_with_it_last_time() -> None:
    budget = new_budget(per_minute=120)
    budget.register_demand(["env_a", "env_b"], now=0.0)
    assert budget.take(Priority.OPEN_END, environment_id="env_a", now=0.0)
    for _ in range(3):
        assert budget.take(Priority.SEGMENT, environment_id="env_a", now=0.0)
    budget.register_demand(["env_a", "env_b"], now=10.0)
    while budget.available(10.0) > 5:
        assert budget.take(Priority.STATS, environment_id=None, now=10.0)
    assert not budget.take(Priority.OPEN_END, environment_id="env_a", now=10.0)
    budget.register_demand(["env_a", "env_b"], now=10.5)
    assert budget.take(Priority.OPEN_END, environment_id="env_a", now=10.5)
    assert not budget.take(Priority.OPEN_END, environment_id="env_b", now=10.5)
    for _ in range(3):
        assert budget.take(Priority.SEGMENT, environment_id="env_a", now=10.5)
    assert not budget.take(Priority.SEGMENT, environment_id="env_a", now=10.5)


def test_what_was_reserved_and_not_asked_for_is_free_again_after_the_scrape() -> None:
    budget = new_budget(per_minute=120)
    budget.register_demand(["env_a"], now=0.0)
    for spend in (Priority.OPEN_END, Priority.SEGMENT, Priority.SEGMENT):
        assert budget.take(spend, environment_id="env_a", now=0.0)
    budget.register_demand(["env_a"], now=60.0)
    assert budget.take(Priority.OPEN_END, environment_id="env_a", now=60.0)
    assert sum(budget.take(Priority.BACKFILL, environment_id="env_a", now=60.0) for _ in range(60)) == 56
    budget.register_demand(["env_a"], now=80.0)
    assert sum(budget.take(Priority.BACKFILL, environment_id="env_a", now=80.0) for _ in range(60)) == 41


def backfill_after_reservation(*, per_minute: int, segments: int, later_s: float = 0.0) -> int:
    """Return how many calls history gets beside what an open end reserved that needed `segments` last time."""
    budget = new_budget(per_minute=per_minute)
    budget.configure(per_minute=per_minute, min_interval_s=60.0, now=0.0)
    budget.register_demand(["env_a"], now=0.0)
    assert budget.take(Priority.OPEN_END, environment_id="env_a", now=0.0)
    for _ in range(segments):
        budget.take(Priority.SEGMENT, environment_id="env_a", now=0.0)
    budget.register_demand(["env_a"], now=3600.0)
    for each in (Priority.STATS, Priority.OPEN_END):
        assert budget.take(each, environment_id="env_a", now=3600.0)
    if later_s:
        budget.register_demand(["env_a"], now=3600.0 + later_s)
    return sum(budget.take(Priority.BACKFILL, environment_id="env_a", now=3600.0 + later_s) for _ in range(1000))


@pytest.mark.parametrize(("segments", "reserved"), [(0, 0), (1, 1), (3, 3), (4, 4), (9, 4)])
def test_an_open_end_reserves_the_segments_of_last_time_but_four_at_most(segments: int, reserved: int) -> None:
    assert backfill_after_reservation(per_minute=120, segments=segments) == 60 - 2 - reserved


@pytest.mark.parametrize(("per_minute", "reserved"), [(14, 0), (16, 1), (32, 2), (64, 4)])
def test_an_open_end_reserves_an_eighth_of_the_burst_at_most(per_minute: int, reserved: int) -> None:
    assert backfill_after_reservation(per_minute=per_minute, segments=9) == per_minute // 2 - 2 - reserved


def test_a_reservation_is_kept_for_ten_seconds() -> None:
    at_once = backfill_after_reservation(per_minute=120, segments=4)
    assert backfill_after_reservation(per_minute=120, segments=4, later_s=9.5) == at_once + 2
    assert backfill_after_reservation(per_minute=120, segments=4, later_s=10.0) == at_once + 2 + 4


def test_stats_take_what_is_reserved_for_a_list_as_well() -> None:
    budget, history = with_four_reserved(), 0
    while budget.take(Priority.BACKFILL, environment_id="env_a", now=60.0):
        history += 1
    assert (history, drained(budget, 60.0)) == (54, 4)


def with_four_reserved() -> Budget:
    """Return a budget with 58 tokens at 60.0, of which `env_a` has four reserved."""
    budget = new_budget(per_minute=120)
    read_list(budget, segments=4, now=0.0)
    read_list(budget, segments=0, now=60.0)
    return budget


def read_list(budget: Budget, *, segments: int, now: float, open_end: bool = True) -> None:
    """Scrape `env_a` and read its stats and its list, or what an earlier scrape has left of that."""
    budget.register_demand(["env_a"], now=now)
    for each in [Priority.STATS] + [Priority.OPEN_END] * open_end + [Priority.SEGMENT] * segments:
        assert budget.take(each, environment_id="env_a", now=now)


def reserved(budget: Budget, *, now: float) -> int:
    """Return what an open end reserves that is read now, when the bucket is full."""
    read_list(budget, segments=0, now=now)
    return 58 - sum(budget.take(Priority.BACKFILL, environment_id="env_a", now=now) for _ in range(60))


def test_a_list_that_has_become_short_reserves_nothing_any_more() -> None:
    budget = new_budget(per_minute=120)
    read_list(budget, segments=3, now=0.0)
    read_list(budget, segments=0, now=60.0)
    assert reserved(budget, now=120.0) == 0


def test_a_scrape_without_a_call_for_the_list_changes_no_reservation() -> None:
    budget = new_budget(per_minute=120)
    read_list(budget, segments=3, now=0.0)
    budget.register_demand(["env_a"], now=60.0)
    assert reserved(budget, now=120.0) == 3


def test_segments_that_are_read_in_the_scrape_after_their_open_end_are_reserved_next_time() -> None:
    budget = new_budget(per_minute=120)
    read_list(budget, segments=0, now=0.0)
    read_list(budget, segments=3, open_end=False, now=60.0)
    assert reserved(budget, now=120.0) == 3


@pytest.mark.parametrize(("left", "affordable"), [(4, False), (5, True)])
def test_until_a_second_scrape_the_next_one_is_expected_after_a_quarter_of_a_minute(
    left: int, *, affordable: bool
) -> None:
    budget, ids = new_budget(per_minute=120), [f"env_{number}" for number in range(29)]  # all are read within 14.5 s
    budget.register_demand(ids, now=0.0)
    for each in ids:
        assert budget.take(Priority.STATS, environment_id=each, now=0.0)
    assert budget.take(Priority.OPEN_END, environment_id="env_0", now=0.0)
    for _ in range(3):
        budget.take(Priority.SEGMENT, environment_id="env_0", now=0.0)
    budget.register_demand(ids, now=1.0)
    while budget.available(1.0) > left:
        assert budget.take(Priority.STATS, environment_id=None, now=1.0)
    assert budget.take(Priority.OPEN_END, environment_id="env_0", now=1.0) is affordable


def test_the_reservation_never_keeps_a_small_budget_from_reading_at_all() -> None:
    fleet = Fleet(1, 6, scrape_s=60.0, list_calls=5).run(60)
    assert fleet.worst_stats_age_s == 60.0
    assert len(fleet.calls) >= 3 * 59


def test_background_work_leaves_half_of_the_burst() -> None:
    budget = new_budget(per_minute=120)
    assert sum(budget.take(Priority.RESYNC, environment_id=None, now=0.0) for _ in range(60)) == 30
    assert budget.take(Priority.BACKFILL, environment_id=None, now=0.0)


def test_what_nobody_has_asked_for_lately_reserves_nothing() -> None:
    budget = new_budget(per_minute=120)
    budget.register_demand([f"env_{number}" for number in range(60)], now=0.0)
    assert not budget.take(Priority.OPEN_END, environment_id="env_0", now=0.0)
    budget.register_demand(["env_0"], now=300.0)
    assert not budget.take(Priority.OPEN_END, environment_id="env_0", now=300.0)
    budget.register_demand(["env_0"], now=300.5)
    assert sum(budget.take(Priority.OPEN_END, environment_id="env_0", now=300.5) for _ in range(60)) == 59


def test_an_environment_that_is_forgotten_takes_its_reservation_along() -> None:
    left: list[int] = []
    for budget in (with_four_reserved(), new_budget(per_minute=120)):
        budget.register_demand(["env_b"], now=1000.0)
        left.append(sum(budget.take(Priority.BACKFILL, environment_id="env_b", now=1000.0) for _ in range(60)))
    assert left[0] == left[1] > 0


@given(
    per_minute=st.integers(30, 600),
    environments=st.integers(1, 30),
    asked=st.lists(
        st.tuples(st.floats(0, 3), st.sampled_from(Priority), st.integers(0, 29), st.booleans()),
        min_size=1,
        max_size=150,
    ),
)
def test_what_is_remembered_of_the_reserve_never_lets_the_listing_overdraw_it(
    per_minute: int, environments: int, asked: list[tuple[float, Priority, int, bool]]
) -> None:
    budget, now = new_budget(per_minute=per_minute), 0.0
    ids = [f"env_{number}" for number in range(environments)]
    budget.register_demand(ids, now=now)
    for passed_s, spend, number, new_scrape in asked:
        now += passed_s
        if new_scrape:
            budget.register_demand(ids, now=now)
        budget.available(now)
        exact = budget._least_left(min(spend, Priority.SEGMENT), now)
        environment_id = ids[number % environments]
        reserved = spend is Priority.SEGMENT and budget._demand_by_environment[environment_id].reserved > 0
        taken = budget.take(spend, environment_id=environment_id, now=now)
        assert not taken or spend is Priority.STATS or reserved or exact >= 1 - 1e-6


TWENTY = [f"env_{number}" for number in range(20)]


def with_known_slack(*, now: float = 0.0) -> Budget:
    """Return a budget with 19 tokens that remembers how many could be spared when it had 20: 15, for five stats are due."""
    budget = new_budget(per_minute=120, now=now)
    budget.register_demand(TWENTY, now=now)
    for each in TWENTY[5:]:
        assert budget.take(Priority.STATS, environment_id=each, now=now)
    for _ in range(26):
        assert budget.take(Priority.OPEN_END, environment_id="env_0", now=now)
    assert budget.available(now) == 19
    return budget


def test_the_listing_is_refused_until_there_is_enough_and_not_for_longer() -> None:
    budget = with_known_slack()
    taken = [budget.take(Priority.OPEN_END, environment_id="env_0", now=0.0) for _ in range(15)]
    assert taken == [True] * 14 + [False]
    later = [budget.take(Priority.OPEN_END, environment_id="env_0", now=now) for now in (0.25, 0.5, 0.75, 1.0)]
    assert later == [False, True, False, True]


def test_what_can_be_spared_is_computed_once_and_then_when_a_refusal_may_have_become_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed_at, compute = [], Budget._least_left

    def counted(self: Budget, priority: Priority, now: float) -> float:
        computed_at.append(now)
        return compute(self, priority, now)

    monkeypatch.setattr(Budget, "_least_left", counted)
    budget = with_known_slack(now=100.0)
    assert computed_at == [100.0]
    for _ in range(14):
        assert budget.take(Priority.OPEN_END, environment_id="env_0", now=100.0)
    assert computed_at == [100.0]
    for now in (100.0, 100.0, 100.25, 100.375, 100.5):
        budget.take(Priority.OPEN_END, environment_id="env_0", now=now)
    assert computed_at == [100.0, 100.0, 100.5]


def test_what_could_not_be_spared_is_forgotten_with_the_server() -> None:
    budget = new_budget(per_minute=40)
    budget.register_demand(TWENTY, now=0.0)
    for each in TWENTY[5:]:
        assert budget.take(Priority.STATS, environment_id=each, now=0.0)
    assert not budget.take(Priority.OPEN_END, environment_id="env_0", now=0.0)
    budget.forget_server(now=0.0)
    assert budget.take(Priority.OPEN_END, environment_id="env_0", now=0.0)


def test_what_could_be_spared_is_forgotten_when_more_environments_are_scraped() -> None:
    budget = with_known_slack()
    budget.register_demand([*TWENTY, *(f"env_new_{number}" for number in range(20))], now=0.0)
    assert not budget.take(Priority.OPEN_END, environment_id="env_0", now=0.0)


def test_what_could_be_spared_is_forgotten_when_the_budget_gets_smaller() -> None:
    budget = with_known_slack()
    budget.configure(per_minute=8, min_interval_s=MIN_INTERVAL_S, now=0.0)
    assert budget.available(0.0) == 4
    assert not budget.take(Priority.OPEN_END, environment_id="env_0", now=0.0)


def test_what_could_be_spared_is_forgotten_after_a_429() -> None:
    budget = with_known_slack()
    budget.rate_limited(10.0, now=0.0)
    assert not budget.take(Priority.OPEN_END, environment_id="env_0", now=12.0)
    assert budget.take(Priority.STATS, environment_id="env_0", now=12.0)


@pytest.mark.parametrize(("scraped", "several"), [(0, 3), (3, 3), (7, 3), (8, 4), (16, 8), (17, 8), (1000, 8)])
def test_half_of_the_environments_in_a_row_make_a_529_everybody_s_but_three_at_least_and_eight_at_most(
    scraped: int, several: int
) -> None:
    budget = new_budget()
    budget.register_demand([f"env_{number}" for number in range(scraped)], now=0.0)
    for row in "ab":
        news = [budget.overloaded(f"env_{row}{number}", 20.0, now=0.0) for number in range(several - 1)]
        assert (news, budget.waits_until(0.0)) == ([False] * (several - 1), None)
        budget.answered()
    news = [budget.overloaded(f"env_{number}", 20.0, now=0.0) for number in range(several)]
    assert (news, budget.waits_until(0.0)) == ([False] * (several - 1) + [True], 20.0)


# ---- waiting out a refusal


@pytest.mark.parametrize(
    ("retry_after_s", "wait_s"), [(0.0, 1.0), (0.2, 1.0), (7.0, 7.0), (299.0, 299.0), (86_400.0, 300.0), (1e300, 300.0)]
)
def test_nobody_calls_before_the_time_a_refusal_names(retry_after_s: float, wait_s: float) -> None:
    budget = new_budget(now=100.0)
    budget.rate_limited(retry_after_s, now=100.0)
    assert budget.waits_until(100.0) == 100.0 + wait_s
    for spend in Priority:
        assert not budget.take(spend, environment_id=None, now=99.9 + wait_s)
    assert budget.available(99.9 + wait_s) == 0
    assert budget.waits_until(100.0 + wait_s) is None
    assert budget.take(Priority.STATS, environment_id=None, now=102.0 + wait_s)


def waits_without_a_time(budget: Budget, times: int, *, now: float = 0.0) -> list[float]:
    waits = []
    for _ in range(times):
        budget.rate_limited(None, now=now)
        until = budget.waits_until(now)
        assert until is not None
        waits.append(until - now)
        now = until
    return waits


def test_refusals_without_a_time_are_waited_out_for_longer_and_longer() -> None:
    assert waits_without_a_time(new_budget(jitter=0.999_999_999), 9) == pytest.approx(
        [5, 10, 20, 40, 80, 160, 300, 300, 300]
    )


def test_the_waits_are_spread_over_the_upper_half() -> None:
    assert waits_without_a_time(new_budget(jitter=0.0), 7) == [2.5, 5, 10, 20, 40, 80, 150]


def test_days_of_refusals_are_survived() -> None:
    waits = waits_without_a_time(new_budget(jitter=0.5), 3000)
    assert waits[-1] == 225


def test_any_other_answer_lets_the_waits_start_small_again() -> None:
    budget = new_budget(jitter=0.0)
    waits_without_a_time(budget, 4)
    budget.answered()
    assert waits_without_a_time(budget, 1, now=1000.0) == [2.5]


def test_refusals_of_calls_that_were_under_way_together_count_once() -> None:
    budget = new_budget(per_minute=120, jitter=0.0)
    for number in range(16):
        budget.rate_limited(None, now=number / 100)
    assert budget.waits_until(0.2) == 2.5
    assert budget.limit_per_minute(2.5) == pytest.approx(60)


def test_news_is_only_the_first_refusal_since_another_answer() -> None:
    budget = new_budget(per_minute=120)
    assert budget.rate_limited(10.0, now=0.0)
    assert not budget.rate_limited(10.0, now=1.0)  # of a call that was under way
    assert not budget.rate_limited(10.0, now=20.0)
    budget.answered()
    assert budget.rate_limited(10.0, now=40.0)


def test_of_two_times_the_later_holds() -> None:
    budget = new_budget()
    budget.rate_limited(20.0, now=0.0)
    budget.rate_limited(5.0, now=1.0)
    assert budget.waits_until(1.0) == 20.0
    budget.rate_limited(30.0, now=2.0)
    assert budget.waits_until(2.0) == 32.0


def test_after_a_refusal_the_rate_is_half_and_comes_back_by_a_tenth_a_minute() -> None:
    budget = new_budget(per_minute=120)
    budget.rate_limited(10.0, now=0.0)
    assert budget.limit_per_minute(10.0) == 60
    assert budget.limit_per_minute(70.0) == pytest.approx(72)
    assert budget.limit_per_minute(310.0) == pytest.approx(120)
    assert budget.limit_per_minute(3600.0) == 120


def test_a_refusal_halves_what_the_rate_has_recovered_to() -> None:
    budget = new_budget(per_minute=120)
    budget.rate_limited(10.0, now=0.0)
    budget.rate_limited(10.0, now=310.0)
    assert budget.limit_per_minute(320.0) == pytest.approx(60)


def test_after_a_refusal_the_listing_reckons_with_the_rate_that_is_left() -> None:
    budget = new_budget(per_minute=120)
    budget.rate_limited(10.0, now=0.0)
    budget.register_demand(TWENTY[:15], now=30.0)
    for each in TWENTY[:15]:
        assert budget.take(Priority.STATS, environment_id=each, now=30.0)
    spare = budget.available(38.0) + budget.limit_per_minute(38.0) / 60 * (45.0 - 38.0) - 15
    assert sum(budget.take(Priority.OPEN_END, environment_id="env_0", now=38.0) for _ in range(60)) == int(spare) == 6


def test_after_a_refusal_the_bucket_starts_empty_and_fills_at_half_the_rate() -> None:
    budget = new_budget(per_minute=120)
    budget.rate_limited(10.0, now=0.0)
    assert drained(budget, 10.0) == 0
    assert drained(budget, 20.2) == 10


def test_another_server_starts_with_a_full_bucket_and_the_whole_rate() -> None:
    budget = new_budget(per_minute=120, jitter=0.0)
    waits_without_a_time(budget, 4)
    budget.overloaded("env_1", 20.0, now=40.0)
    budget.overloaded("env_2", 20.0, now=40.0)
    budget.forget_server(now=41.0)
    assert (budget.waits_until(41.0), budget.limit_per_minute(41.0), drained(budget, 41.0)) == (None, 120, 60)
    assert not budget.overloaded("env_3", 20.0, now=41.0)
    assert waits_without_a_time(budget, 1, now=50.0) == [2.5]


def test_the_rate_never_falls_below_a_sixteenth() -> None:
    budget = new_budget(per_minute=160)
    now = 0.0
    for _ in range(12):
        budget.rate_limited(1.0, now=now)
        now += 1.0
    assert budget.limit_per_minute(now) == pytest.approx(10, rel=0.01)


# ---- many environments, for many minutes


@dataclass
class Fleet:
    """Environments that are scraped all at once, as the collector does it, over a budget."""

    environments: int
    per_minute: int
    scrape_s: float
    list_calls: int
    budget: Budget = field(init=False)
    calls: list[float] = field(default_factory=list)
    worst_stats_age_s: float = 0.0
    worst_list_age_s: float = 0.0
    walks: int = 0

    def __post_init__(self) -> None:
        self.budget = new_budget(per_minute=self.per_minute)
        self.ids = [f"env_{number}" for number in range(self.environments)]
        self.stats_at = dict.fromkeys(self.ids, float("-inf"))
        self.list_at = dict.fromkeys(self.ids, float("-inf"))

    def run(self, minutes: int, *, settling_minutes: int = 2) -> Fleet:
        for scrape in range(int(minutes * 60 / self.scrape_s)):
            now = scrape * self.scrape_s
            self._scrape(now)
            if now >= settling_minutes * 60:
                self.worst_stats_age_s = max(self.worst_stats_age_s, now + self.scrape_s - min(self.stats_at.values()))
                self.worst_list_age_s = max(self.worst_list_age_s, now + self.scrape_s - min(self.list_at.values()))
        return self

    def _scrape(self, now: float) -> None:
        self.budget.register_demand(self.ids, now=now)
        for each in self._due(self.stats_at, now):
            if self._take(Priority.STATS, each, now):
                self.stats_at[each] = now
        for each in self._due(self.list_at, now):
            if self._take(Priority.OPEN_END, each, now) and self._take_segments(each, now):
                self.list_at[each] = now
                self.walks += 1

    def _take_segments(self, environment_id: str, now: float) -> bool:
        """Ask for all of them at once, as the listing does; return whether all could be read."""
        wanted = self.list_calls - 1
        return sum(self._take(Priority.SEGMENT, environment_id, now) for _ in range(wanted)) == wanted

    def _due(self, read_at: dict[str, float], now: float) -> list[str]:
        due = [each for each, at in read_at.items() if at <= now - MIN_INTERVAL_S]
        return sorted(due, key=lambda each: read_at[each])

    def _take(self, spend: Priority, environment_id: str, now: float) -> bool:
        taken = self.budget.take(spend, environment_id=environment_id, now=now)
        if taken:
            self.calls.append(now)
        return taken


@pytest.mark.parametrize("list_calls", [1, 3])
@pytest.mark.parametrize(("environments", "per_minute"), [(40, 120), (50, 60), (200, 600), (3, 1)])
def test_stats_are_as_fresh_as_arithmetic_allows_however_often_they_are_scraped(
    environments: int, per_minute: int, list_calls: int
) -> None:
    fleet = Fleet(environments, per_minute, scrape_s=0.25, list_calls=list_calls).run(12, settling_minutes=6)
    bound_s = environments / per_minute * 60
    assert fleet.worst_stats_age_s <= 1.2 * bound_s
    for window_s in (1.0, 60.0):
        assert most_in_a_window(fleet.calls, window_s) <= per_minute / 2 + per_minute * window_s / 60 + 1


@pytest.mark.parametrize(
    ("scrape_s", "list_calls", "list_every_scrapes"),
    [
        (15.0, 1, 2),  # 160 calls a minute are wanted, 120 may be made: every second list
        (15.0, 2, 4),  # 240 of 120: what stats leave is 20 lists a minute
        (15.0, 3, 7),  # 13 lists a minute
        (30.0, 2, 1),  # 120 of 120
        (30.0, 3, 2),  # 160 of 120
        (60.0, 2, 1),
        (60.0, 3, 2),  # a scrape waits for no token, so it has no more than the burst: 60 of 80
    ],
)
def test_neither_stats_nor_lists_starve_where_arithmetic_allows_both(
    scrape_s: float, list_calls: int, list_every_scrapes: int
) -> None:
    fleet = Fleet(20, 120, scrape_s, list_calls).run(60, settling_minutes=10)
    assert fleet.worst_stats_age_s == scrape_s
    assert fleet.worst_list_age_s <= list_every_scrapes * scrape_s


def test_the_budget_is_used_up_where_more_is_wanted() -> None:
    fleet = Fleet(40, 120, scrape_s=0.25, list_calls=2).run(10)
    assert len(fleet.calls) >= 0.98 * 1200


def test_stats_are_read_at_every_scrape_after_a_refusal_too_once_the_rate_is_back() -> None:
    fleet = Fleet(20, 120, scrape_s=15.0, list_calls=1)
    fleet.budget.rate_limited(30.0, now=0.0)
    fleet.run(30, settling_minutes=10)
    assert fleet.worst_stats_age_s == 15.0


def test_a_steady_fleet_spends_evenly() -> None:
    fleet = Fleet(40, 120, scrape_s=0.25, list_calls=1).run(10)
    gaps = [later - earlier for earlier, later in pairwise(fleet.calls) if earlier > 120]
    assert max(gaps) <= 0.75

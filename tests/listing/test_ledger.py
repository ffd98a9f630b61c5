"""What the ledger does when the list is not as it should be, and what it asks for when."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from exporter.api.wire import State, WorkItem, WorkPage
from exporter.listing.ledger import Ledger, Order, Priority
from exporter.listing.lifecycle import Step
from exporter.simulator.environment import Rules
from tests.listing.listed import RESYNC_S, Clock, ListReader, Scenario, environment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.listing.ledger import Call
    from exporter.simulator import places

NOW = 2e9
ORDERS: tuple[places.Order, ...] = ("newest_first", "oldest_first")


def _finished(number: int) -> WorkItem:
    at = 1e9 + number
    return WorkItem(f"work_{number}", State.STOPPED, at, at + 1, at + 2, at + 3, at + 3, at + 4)


def _active(number: int) -> WorkItem:
    at = 1e9 + number
    return WorkItem(f"work_{number}", State.ACTIVE, at, at + 1, at + 2, at + 3)


def _read(ledger: Ledger, answer: Callable[[Call], WorkPage], *, at: float = 0.0, limit: int = 1000) -> list[Call]:
    """Read as long as calls are wanted; every one is answered."""
    calls: list[Call] = []
    ledger.begin(now=at)
    while wanted := ledger.calls_to_make():
        for call in wanted:
            calls.append(call)
            assert len(calls) <= limit, "the read does not end"
            ledger.receive_page(call, answer(call), now=at)
    return calls


def _pages(items: Sequence[WorkItem], size: int) -> Callable[[Call], WorkPage]:
    """Serve a list by key cursors: the id of the item before the page."""
    ids = [item.id for item in items]

    def answer(call: Call) -> WorkPage:
        start = 0 if call.cursor is None else ids.index(call.cursor) + 1
        page = tuple(items[start : start + size])
        return WorkPage(page, page[-1].id if start + size < len(items) else None)

    return answer


def _ledger() -> Ledger:
    return Ledger(page_size=100, resync_interval_s=RESYNC_S)


def _steps(ledger: Ledger) -> list[tuple[Step, str]]:
    return [(each.step, each.item.id) for each in ledger.take_transitions()]


# ---- what is shown


def test_nothing_is_complete_before_the_first_read() -> None:
    listing = _ledger().listing()
    assert not listing.complete
    assert listing.count_by_state == dict.fromkeys(State, 0)
    assert listing.oldest_at_by_state == dict.fromkeys(list(State)[:4])
    assert listing.heartbeats == ()
    assert listing.oldest_read_at is None


def test_an_empty_list_is_complete_after_one_call() -> None:
    ledger = _ledger()
    assert len(_read(ledger, lambda _: WorkPage((), None), at=5.0)) == 1
    assert ledger.listing().complete
    assert ledger.listing().count_by_state == dict.fromkeys(State, 0)
    assert ledger.listing().oldest_read_at == 5.0


def test_each_live_state_shows_since_when_its_oldest_item_is_in_it() -> None:
    items = (
        WorkItem("q1", State.QUEUED, 10.0),
        WorkItem("q2", State.QUEUED, 9.0),
        WorkItem("s1", State.STARTING, 1.0, 20.0),
        WorkItem("a1", State.ACTIVE, 1.0, 2.0, 30.0, 33.0),
        WorkItem("a2", State.ACTIVE, 1.0, 2.0, 31.0, 32.0),
        WorkItem("p1", State.STOPPING, 1.0, 2.0, 3.0, 4.0, 40.0),
        WorkItem("u1", State.UNKNOWN, 1.0),
    )
    ledger = _ledger()
    _read(ledger, lambda _: WorkPage(items, None))
    listing = ledger.listing()
    assert listing.oldest_at_by_state == {
        State.QUEUED: 9.0,
        State.STARTING: 20.0,
        State.ACTIVE: 30.0,
        State.STOPPING: 40.0,
    }
    assert listing.heartbeats == (32.0, 33.0)
    assert listing.count_by_state[State.UNKNOWN] == 1


def test_an_item_shown_twice_is_counted_once() -> None:
    items = [_finished(n) for n in range(30)]
    ledger = _ledger()
    pages = {None: WorkPage(tuple(items[:20]), "1"), "1": WorkPage(tuple(items[15:]), None)}
    _read(ledger, lambda call: pages[call.cursor])
    assert ledger.listing().count_by_state[State.STOPPED] == 30


# ---- what is asked


def test_a_call_in_flight_is_not_wanted_again() -> None:
    ledger = _ledger()
    ledger.begin(now=0.0)
    assert len(ledger.calls_to_make()) == 1
    assert ledger.calls_to_make() == ()


def test_a_missed_call_is_not_wanted_again_in_the_same_read() -> None:
    ledger = _ledger()
    ledger.begin(now=0.0)
    (call,) = ledger.calls_to_make()
    ledger.skipped(call)
    assert ledger.calls_to_make() == ()
    ledger.begin(now=15.0)
    assert len(ledger.calls_to_make()) == 1


def test_an_answer_that_comes_after_its_read_is_void() -> None:
    ledger = _ledger()
    ledger.begin(now=0.0)
    (late,) = ledger.calls_to_make()
    ledger.begin(now=15.0)
    ledger.receive_page(late, WorkPage((_active(1),), None), now=15.0)
    assert not ledger.listing().complete


@pytest.mark.parametrize("order", ORDERS)
def test_live_segments_are_wanted_all_at_once_and_the_stalest_first(order: places.Order) -> None:
    clock = Clock()
    environment = environment_of(clock, Rules(order=order))
    for _ in range(5):
        environment.create()
        clock.at += 1000
        environment.add_finished(300, spacing_s=0.1)
        clock.at += 1000
    reader = ListReader(environment, clock, Ledger(page_size=100, resync_interval_s=1e9))
    reader.read()
    clock.at += 15
    read = reader.read()
    assert read.count(Priority.SEGMENT) == 5
    assert read.depth <= 2
    clock.at += 15
    reader.ledger.begin(now=clock.at)
    calls = list(reader.ledger.calls_to_make())
    if order == "newest_first":
        reader.ledger.receive_page(calls[0], _page(reader, calls[0]), now=clock.at)
        calls = list(reader.ledger.calls_to_make())
    assert [call.priority for call in calls] == sorted(call.priority for call in calls)
    segments = [call.stale_since for call in calls if call.priority is Priority.SEGMENT]
    assert len(segments) == 5
    assert segments == sorted(segments)


def _page(reader: ListReader, call: Call) -> WorkPage:
    from tests.listing.listed import as_listed  # noqa: PLC0415 - only here

    page = reader.environment.page(limit=call.limit, cursor=call.cursor)
    return WorkPage(tuple(as_listed(item, "micros") for item in page.items), page.next_cursor)


@pytest.mark.parametrize("order", [*ORDERS, "unordered"])
def test_a_cold_start_is_spread_over_reads_and_loses_nothing(order: places.Order) -> None:
    scenario = Scenario(Rules(order=order, page_max=100), page_size=100, history=2000, seed=1)
    calls = 0
    for _ in range(6):
        calls += len(scenario.read(calls=3).calls)
        assert not scenario.reader.listing().complete
        scenario.pass_time(15)
    while not scenario.reader.listing().complete:
        calls += len(scenario.read(calls=3).calls)
    assert calls <= 25
    scenario.read_quietly()


@pytest.mark.parametrize("order", ORDERS)
def test_a_cold_start_in_single_calls_counts_items_that_ended_at_once(order: places.Order) -> None:
    items = [WorkItem(f"work_{n}", State.STOPPED, 1e9 + n, stopped_at=1e9 + n) for n in range(250)]
    answer = _pages(items if order == "oldest_first" else items[::-1], 50)
    ledger = _ledger()
    for read in range(20):
        ledger.begin(now=15.0 * read)
        call, *_ = ledger.calls_to_make()
        ledger.receive_page(call, answer(call), now=15.0 * read)
        for other in ledger.calls_to_make():
            ledger.skipped(other)
    assert ledger.listing().complete
    assert ledger.listing().contradictions == 0
    assert ledger.listing().count_by_state[State.STOPPED] == 250


def test_a_list_that_was_not_read_for_long_is_caught_up_with_over_several_reads() -> None:
    scenario = Scenario(Rules(page_max=100), page_size=100, history=300, seed=1)
    scenario.read_quietly()
    scenario.pass_time(3000)
    for _ in range(1000):
        scenario.pass_time(1)
        scenario.create(1)
    scenario.pass_time(60)
    assert [len(scenario.read(calls=4).calls) for _ in range(2)] == [4, 4]
    scenario.read_quietly()


def test_pages_that_the_server_refuses_for_their_size_are_asked_for_smaller() -> None:
    scenario = Scenario(Rules(page_max=100, over_limit="refuse"), page_size=1000, history=250, seed=1)
    read = scenario.read_quietly()
    assert [call.limit for call in read.calls] == [1000, 100, 100, 100]


def test_a_small_page_is_not_asked_for_smaller() -> None:
    ledger = Ledger(page_size=100, resync_interval_s=RESYNC_S)
    ledger.begin(now=0.0)
    (call,) = ledger.calls_to_make()
    assert not ledger.shrink(call)


# ---- order and cursors


@pytest.mark.parametrize(
    ("order", "learnt"),
    [
        ("newest_first", Order.NEWEST_FIRST),
        ("oldest_first", Order.OLDEST_FIRST),
        ("unordered", Order.NEITHER),
    ],
)
def test_the_order_is_learnt_from_the_pages(order: places.Order, learnt: Order) -> None:
    scenario = Scenario(Rules(order=order, page_max=100), page_size=100, history=500, seed=1)
    scenario.read_quietly()
    assert scenario.reader.listing().order is learnt


def test_an_order_that_flips_leads_to_full_walks_and_is_believed_again_later() -> None:
    scenario = Scenario(Rules(page_max=100), page_size=100, history=500, seed=1)
    scenario.read_quietly()
    scenario.environment.rules.order = "oldest_first"
    scenario.create(1)
    scenario.pass_time(15)
    scenario.read()
    scenario.read_quietly()
    assert scenario.reader.listing().contradictions >= 1
    scenario.pass_time(RESYNC_S + 1)
    scenario.read_quietly()
    scenario.pass_time(15)
    assert len(scenario.read_quietly().calls) == 1
    assert scenario.reader.listing().order is Order.OLDEST_FIRST


def test_a_list_without_creation_times_is_walked_fully_and_counted_right() -> None:
    items = [WorkItem(f"work_{n}", State.STOPPED, acknowledged_at=1e9 + n) for n in range(25)]
    ledger = _ledger()
    _read(ledger, _pages(items, 10))
    assert ledger.listing().complete
    assert ledger.listing().order is Order.NEITHER
    items.append(WorkItem("work_new", State.STOPPED, acknowledged_at=NOW))
    assert len(_read(ledger, _pages(items, 10), at=15.0)) == 3
    assert ledger.listing().count_by_state[State.STOPPED] == 26
    assert (Step.STOPPED, "work_new") in _steps(ledger)
    _read(ledger, _pages(items, 10), at=30.0)
    assert _steps(ledger) == []


# ---- contradictions


@pytest.mark.parametrize("period", [1, 2, 3, 7])
@pytest.mark.parametrize("rising", [1, -1, 0])
def test_cursors_that_go_round_in_circles_end_the_read_incomplete(period: int, rising: int) -> None:
    def answer(call: Call) -> WorkPage:
        at = 0 if call.cursor is None else int(call.cursor)
        return WorkPage(tuple(_finished(100 + rising * (at * 20 + n)) for n in range(20)), str((at + 1) % period))

    ledger = _ledger()
    _read(ledger, answer, limit=100)
    listing = ledger.listing()
    assert not listing.complete
    assert listing.contradictions > 0


@pytest.mark.parametrize("order", ORDERS)
def test_a_list_that_never_ends_with_new_cursors_ends_the_read_incomplete(order: places.Order) -> None:
    items = [_finished(n) for n in range(50)]
    page = tuple(items if order == "oldest_first" else reversed(items))
    ledger, number = _ledger(), iter(range(10**6))
    _read(ledger, lambda _: WorkPage(page, f"cursor {next(number)}"), limit=20)
    assert not ledger.listing().complete


def test_empty_pages_without_end_end_the_read_incomplete() -> None:
    ledger, number = _ledger(), iter(range(10**6))
    _read(ledger, lambda _: WorkPage((), f"cursor {next(number)}"), limit=20)
    assert not ledger.listing().complete


def test_a_contradiction_heals_once_the_list_is_sound_again() -> None:
    items = [_finished(n) for n in range(250)]
    ledger = _ledger()
    _read(ledger, lambda _: WorkPage(tuple(items[:100]), "1"), limit=20)
    assert not ledger.listing().complete
    _read(ledger, _pages(items, 100), at=15.0)
    assert ledger.listing().complete
    assert ledger.listing().count_by_state[State.STOPPED] == 250


def test_a_sealed_item_that_is_alive_again_starts_the_listing_over_and_emits_nothing_twice() -> None:
    items = [_finished(n) for n in reversed(range(250))]
    items[30] = _active(219)
    ledger = _ledger()
    _read(ledger, _pages(items, 100))
    items[30] = _finished(219)
    _read(ledger, _pages(items, 100), at=15.0)
    assert _steps(ledger) == [(Step.STOPPED, "work_219")]
    items[30] = _active(219)
    _read(ledger, _pages(items, 100), at=30.0)
    assert ledger.listing().contradictions == 1
    assert ledger.listing().complete
    assert ledger.listing().count_by_state[State.ACTIVE] == 1
    items[30] = _finished(219)
    _read(ledger, _pages(items, 100), at=45.0)
    assert ledger.listing().count_by_state[State.STOPPED] == 250
    assert _steps(ledger) == []


@pytest.mark.parametrize("order", ORDERS)
def test_refused_cursors_lead_to_a_new_walk(order: places.Order) -> None:
    scenario = Scenario(Rules(order=order, page_max=100), page_size=100, history=0, seed=1)
    scenario.create(1)
    scenario.pass_time(1000)
    scenario.environment.add_finished(500, spacing_s=0.5)
    scenario.pass_time(60)
    scenario.read_quietly()
    scenario.environment.rules.cursor_ttl_s = 14.0
    scenario.pass_time(15)
    scenario.read_quietly()


def test_a_server_that_refuses_every_cursor_ends_the_read_incomplete() -> None:
    ledger = _ledger()
    ledger.begin(now=0.0)
    for _ in range(20):
        for call in (wanted := ledger.calls_to_make()):
            if call.cursor is None:
                page = WorkPage(tuple(_finished(n) for n in reversed(range(20))), "next")
                ledger.receive_page(call, page, now=0.0)
            else:
                ledger.cursor_rejected(call)
        if not wanted:
            break
    assert ledger.calls_to_make() == ()
    assert not ledger.listing().complete


def test_the_end_of_a_list_of_positions_that_slips_away_is_noticed_at_once() -> None:
    rules = Rules(order="oldest_first", cursors="position", page_max=100)
    scenario = Scenario(rules, page_size=100, history=250, seed=1)
    scenario.pass_time(60)
    scenario.read_quietly()
    scenario.environment.delete_stopped(60)
    scenario.create(55)
    scenario.pass_time(15)
    scenario.read()
    assert scenario.reader.listing().contradictions == 1
    assert scenario.reader.listing().complete
    assert scenario.reader.listing().count_by_state == scenario.reader.true_counts()
    assert scenario.reader.tally.view().created == 55


def test_live_items_that_slip_before_their_page_are_found_again() -> None:
    rules = Rules(order="oldest_first", cursors="position", page_max=100)
    scenario = Scenario(rules, page_size=100, history=205, seed=1)
    scenario.create(1)
    scenario.pass_time(1000)
    scenario.environment.add_finished(350, spacing_s=0.5)
    scenario.pass_time(60)
    scenario.read_quietly()
    scenario.environment.delete_stopped(10)
    scenario.pass_time(15)
    scenario.read()
    scenario.stop(0, force=True)
    scenario.pass_time(15)
    scenario.read()
    assert scenario.reader.listing().live == 0
    assert scenario.reader.listing().contradictions == 0
    assert scenario.reader.tally.view().finished_by_outcome["never_acknowledged"] == 1


# ---- resync


@pytest.mark.parametrize("order", ORDERS)
def test_deletions_are_noticed_by_a_resync_that_is_wanted_last_and_not_too_often(order: places.Order) -> None:
    scenario = Scenario(Rules(order=order, page_max=100), page_size=100, history=1000, seed=1)
    scenario.read_quietly()
    scenario.environment.delete_stopped(150)
    reads = []
    for _ in range(40):
        scenario.pass_time(RESYNC_S / 10)
        reads.append(scenario.read())
        priorities = [call.priority for call in reads[-1].calls]
        assert priorities == sorted(priorities) or scenario.reader.listing().complete
    assert scenario.reader.listing().count_by_state == scenario.reader.true_counts()
    resyncs = [read.count(Priority.RESYNC) > 0 for read in reads]
    assert 3 <= sum(resyncs) <= 4
    assert not any(one and other for one, other in pairwise(resyncs))


def test_a_resync_goes_on_over_many_reads_while_the_listing_stays_complete() -> None:
    scenario = Scenario(Rules(page_max=100), page_size=100, history=1000, seed=1)
    scenario.read_quietly()
    scenario.environment.delete_stopped(150)
    scenario.pass_time(RESYNC_S + 1)
    for _ in range(10):
        scenario.create(1)
        scenario.pass_time(15)
        assert len(scenario.read(calls=2).calls) == 2
        assert scenario.reader.listing().complete
    for _ in range(2):
        scenario.pass_time(15)
        scenario.read()
    assert scenario.reader.listing().count_by_state == scenario.reader.true_counts()


# ---- transitions


@pytest.mark.parametrize("newest_first", ["newest first", "oldest first"])
def test_a_hundred_thousand_finished_items_move_nothing_until_something_new_happens(newest_first: str) -> None:
    items = [_finished(n) for n in range(100_000)]
    if newest_first == "newest first":
        items.reverse()
    by_start = {item.id: index for index, item in enumerate(items)}

    def answer(call: Call) -> WorkPage:
        start = 0 if call.cursor is None else by_start[call.cursor] + 1
        page = tuple(items[start : start + 1000])
        return WorkPage(page, page[-1].id if start + 1000 < len(items) else None)

    ledger = Ledger(page_size=1000, resync_interval_s=RESYNC_S)
    for at in (0.0, 15.0, RESYNC_S + 1, RESYNC_S + 16):
        _read(ledger, answer, at=at)
        assert ledger.listing().count_by_state[State.STOPPED] == 100_000
        assert ledger.take_transitions() == ()
    new = WorkItem("work_new", State.QUEUED, NOW + RESYNC_S + 20)
    items.insert(0 if newest_first == "newest first" else len(items), new)
    by_start |= {item.id: index for index, item in enumerate(items)}
    _read(ledger, answer, at=RESYNC_S + 31)
    assert _steps(ledger) == [(Step.CREATED, "work_new")]


def test_an_item_that_came_and_went_between_two_reads_is_emitted_in_every_step() -> None:
    items = [_finished(n) for n in reversed(range(20))]
    ledger = _ledger()
    _read(ledger, _pages(items, 100))
    items.insert(0, WorkItem("work_new", State.STOPPED, NOW, NOW + 1, NOW + 2, NOW + 2, None, NOW + 9))
    _read(ledger, _pages(items, 100), at=15.0)
    assert _steps(ledger) == [(step, "work_new") for step in Step]


def test_a_second_acknowledgement_after_a_requeue_is_another_one() -> None:
    def life(state: State, **instants: Any) -> WorkPage:
        return WorkPage((WorkItem("work_1", state, NOW, **instants),), None)

    ledger = _ledger()
    _read(ledger, lambda _: WorkPage((), None))
    for at, page in enumerate(
        (
            life(State.STARTING, acknowledged_at=NOW + 1),
            life(State.QUEUED),
            life(State.STARTING, acknowledged_at=NOW + 60),
            life(State.STARTING, acknowledged_at=NOW + 60),
        )
    ):
        _read(ledger, lambda _, page=page: page, at=15.0 * (at + 1))  # type: ignore[misc]  # bound now, not later
    assert [step for step, _ in _steps(ledger)] == [Step.CREATED, Step.ACKNOWLEDGED, Step.ACKNOWLEDGED]


def test_an_item_that_stopped_nobody_knows_when_is_emitted_once() -> None:
    ledger = _ledger()
    _read(ledger, lambda _: WorkPage((), None))
    for at in (15.0, 30.0, 45.0):
        _read(ledger, lambda _: WorkPage((WorkItem("work_1", State.STOPPED, NOW),), None), at=at)
    assert _steps(ledger) == [(Step.CREATED, "work_1"), (Step.STOPPED, "work_1")]


def test_a_state_nobody_knows_that_is_final_is_sealed_like_stopped() -> None:
    items = [WorkItem(f"work_{n}", State.UNKNOWN, 1e9 + n, stopped_at=1e9 + n) for n in reversed(range(250))]
    ledger = _ledger()
    _read(ledger, _pages(items, 100))
    assert len(_read(ledger, _pages(items, 100), at=15.0)) == 1
    assert ledger.listing().count_by_state[State.UNKNOWN] == 250


@pytest.mark.parametrize("order", [*ORDERS, "unordered"])
def test_an_item_that_gets_a_new_id_when_it_is_handed_out_again_is_one_item(order: places.Order) -> None:
    rules = Rules(order=order, page_max=100, new_id_on_reclaim=True)
    scenario = Scenario(rules, page_size=100, history=300, seed=1)
    scenario.read_quietly()
    scenario.create(1)
    for pause in (5, 60, 60):
        scenario.poll()
        scenario.pass_time(pause)
        scenario.read_quietly()
    scenario.poll()
    scenario.work_on(0)
    scenario.pass_time(15)
    scenario.read_quietly()
    view = scenario.reader.tally.view()
    assert (view.created, view.queue_wait.count) == (1, 1)


def test_answers_may_arrive_in_any_order() -> None:
    items = [_finished(n) for n in reversed(range(1000))]
    for number in (150, 450, 850):
        items[999 - number] = _active(number)
    ledger = _ledger()
    _read(ledger, _pages(items, 100))
    answer = _pages(items, 100)
    ledger.begin(now=15.0)
    (walk,) = ledger.calls_to_make()
    ledger.receive_page(walk, answer(walk), now=15.0)
    segments = ledger.calls_to_make()
    assert len(segments) == 3
    for call in reversed(segments):
        ledger.receive_page(call, answer(call), now=15.0)
    assert ledger.calls_to_make() == ()
    assert ledger.listing().oldest_read_at == 15.0
    assert ledger.listing().count_by_state[State.ACTIVE] == 3


def test_a_segment_that_was_missed_keeps_its_last_reading_and_its_age() -> None:
    items = [_finished(n) for n in reversed(range(500))]
    items[300] = _active(199)
    ledger = _ledger()
    _read(ledger, _pages(items, 100))
    ledger.begin(now=15.0)
    (walk,) = ledger.calls_to_make()
    ledger.receive_page(walk, _pages(items, 100)(walk), now=15.0)
    (segment,) = ledger.calls_to_make()
    assert segment.stale_since == 0.0
    ledger.skipped(segment)
    assert ledger.calls_to_make() == ()
    listing = ledger.listing()
    assert listing.complete
    assert listing.oldest_read_at == 0.0
    assert listing.count_by_state[State.ACTIVE] == 1


def _with_a_live_item_far_back() -> tuple[Ledger, list[WorkItem]]:
    items = [_finished(n) for n in reversed(range(500))]
    items[300] = _active(199)
    ledger = _ledger()
    _read(ledger, _pages(items, 100))
    return ledger, items


def test_live_items_are_read_although_the_open_end_could_not_be() -> None:
    ledger, items = _with_a_live_item_far_back()
    ledger.begin(now=15.0)
    (walk,) = ledger.calls_to_make()
    ledger.skipped(walk)
    (segment,) = ledger.calls_to_make()
    ledger.receive_page(segment, _pages(items, 100)(segment), now=15.0)
    assert ledger.calls_to_make() == ()
    assert ledger.listing().oldest_read_at == 0.0


def test_what_was_under_way_when_a_read_was_cut_short_is_asked_for_in_the_next() -> None:
    ledger, items = _with_a_live_item_far_back()
    for now in (15.0, 30.0):
        ledger.begin(now=now)
        (walk,) = ledger.calls_to_make()
        ledger.receive_page(walk, _pages(items, 100)(walk), now=now)
        (segment,) = ledger.calls_to_make()
    ledger.receive_page(segment, _pages(items, 100)(segment), now=30.0)
    assert ledger.listing().oldest_read_at == 30.0


def test_a_list_whose_order_breaks_far_back_is_walked_anew() -> None:
    ledger, items = _with_a_live_item_far_back()
    items[310], items[320] = items[320], items[310]
    ledger.begin(now=15.0)
    (walk,) = ledger.calls_to_make()
    ledger.receive_page(walk, _pages(items, 100)(walk), now=15.0)
    (segment,) = ledger.calls_to_make()
    ledger.receive_page(segment, _pages(items, 100)(segment), now=15.0)
    assert ledger.listing().contradictions == 1


def test_large_pages_are_tried_again_at_every_resync() -> None:
    scenario = Scenario(Rules(page_max=100, over_limit="refuse"), page_size=1000, history=250, seed=1)
    scenario.read_quietly()
    scenario.pass_time(RESYNC_S + 1)
    assert [call.limit for call in scenario.read_quietly().calls if call.priority is Priority.RESYNC] == [
        1000,
        100,
        100,
        100,
    ]
    scenario.environment.rules.page_max = 1000
    scenario.pass_time(RESYNC_S + 1)
    scenario.read_quietly()
    scenario.pass_time(15)
    assert [call.limit for call in scenario.read_quietly().calls] == [1000]
    assert scenario.reader.listing().contradictions == 0

"""The index by itself: what it asks for, and what a page makes of it. `test_ledger` has what a user of the ledger sees."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from exporter.api.wire import State, WorkItem, WorkPage
from exporter.listing.bookmarks import INFINITY
from exporter.listing.clock_bounds import ClockBounds
from exporter.listing.index import ListIndex
from exporter.listing.items_clock import ItemsClock
from exporter.listing.lifecycle import Step, TransitionDetector
from exporter.listing.order import Order
from exporter.listing.pages import Contradiction
from exporter.listing.queue_balance import QueueBalance, QueuedMeaning
from tests.listing.made import active, finished, queued

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.listing.segments import PageRequest

SIZE = 10
WATERMARK = 1e6


def _balance() -> QueueBalance:
    return QueueBalance(QueuedMeaning(), ClockBounds(), lateness_s=0.0)


class _SetClock(ItemsClock):
    """A clock of the items that shows what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.shows = WATERMARK

    def at(self, now: float) -> float:  # noqa: ARG002 - whatever the other clock shows
        return self.shows


class _List:
    """A list of items in pages of ten, with key cursors, and an index of it. All is settled unless a read says otherwise."""

    def __init__(
        self,
        items: Sequence[WorkItem],
        *,
        newest_first: bool = True,
        order: Order = Order.UNKNOWN,
        lateness_s: float = 0.0,
    ) -> None:
        self.items = list(items)
        self.newest_first = newest_first
        self.now = 0.0
        self.clock = _SetClock()
        self.detector = TransitionDetector()
        self.detector.clock = self.clock
        self.index = ListIndex(self.detector, _balance(), page_size=SIZE, allowed_lateness_s=lateness_s, order=order)
        self._reads: Iterator[int] = count(1)

    def begin(self) -> None:
        self.index.begin(next(self._reads), self.now)

    def page(self, cursor: str | None) -> WorkPage:
        ordered = sorted(self.items, key=lambda item: item.created_at or 0.0, reverse=self.newest_first)
        ids = [item.id for item in ordered]
        start = 0 if cursor is None else ids.index(cursor) + 1
        page = tuple(ordered[start : start + SIZE])
        return WorkPage(page, page[-1].id if start + SIZE < len(ordered) else None)

    def answer(self, request: PageRequest) -> None:
        self.index.receive_page(request, self.page(request.bookmark.cursor), self.now)

    def read(self, *, now: float = 0.0, watermark: float = WATERMARK) -> list[str | None]:
        """Read until nothing is asked for, and return the cursors asked for."""
        self.now, self.clock.shows = now, watermark
        self.begin()
        cursors = []
        while requests := self.index.requests_to_make():
            for request in requests:
                cursors.append(request.bookmark.cursor)
                self.answer(request)
        return cursors

    def counts(self) -> dict[str, int]:
        return {state.value: number for state, number in self.index.items.count_by_state().items() if number}


def _history(number: int = 35, *, live: Sequence[int] = ()) -> list[WorkItem]:
    return [active(str(n), n) if n in live else finished(str(n), n) for n in range(number)]


@pytest.fixture(params=[True, False], ids=["newest first", "oldest first"])
def newest_first(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# ---- what is asked


def test_the_first_walk_reads_everything_and_the_next_one_the_open_end(*, newest_first: bool) -> None:
    listed = _List(_history(), newest_first=newest_first)
    assert len(listed.read()) == 4
    assert listed.index.order is (Order.NEWEST_FIRST if newest_first else Order.OLDEST_FIRST)
    assert (listed.index.complete, listed.index.ended_in, listed.counts()) == (True, 1, {"stopped": 35})
    assert listed.read() == [None if newest_first else "29"]
    assert (listed.index.ended_in, listed.index.walked_in) == (1, 2)


def test_live_items_are_read_again_through_their_bookmarks(*, newest_first: bool) -> None:
    listed = _List(_history(live=[17]), newest_first=newest_first)
    listed.read()
    cursors = listed.read(now=15.0)
    assert cursors == ([None, "25"] if newest_first else ["29", "9"])
    assert listed.index.current
    assert listed.index.oldest_read_at() == 15.0
    listed.items[17] = finished("17", 17)
    listed.read(now=30.0)
    assert listed.counts() == {"stopped": 35}
    assert len(listed.read(now=45.0)) == 1


def test_segments_wait_for_a_newest_first_walk_and_not_for_an_oldest_first_one(*, newest_first: bool) -> None:
    listed = _List(_history(live=[17]), newest_first=newest_first)
    listed.read()
    listed.begin()
    assert [request.is_walk for request in listed.index.requests_to_make()] == (
        [True] if newest_first else [True, False]
    )
    assert listed.index.requests_to_make() == []


def test_segments_are_read_although_the_walk_is_skipped(*, newest_first: bool) -> None:
    listed = _List(_history(live=[17, 33]), newest_first=newest_first)
    listed.read()
    listed.begin()
    for request in listed.index.requests_to_make():
        listed.index.skipped(request)
    asked = [request.expected[0].item.id for request in listed.index.requests_to_make()]
    assert asked == (["33", "17"] if newest_first else ["33"])
    assert not listed.index.current


def test_a_walk_that_was_skipped_is_asked_for_again_in_the_next_read() -> None:
    listed = _List(_history())
    listed.begin()
    (request,) = listed.index.requests_to_make()
    assert request.stale_since == -INFINITY
    listed.index.skipped(request)
    assert listed.index.requests_to_make() == []
    assert len(listed.read(now=3.0)) == 4
    listed.begin()
    (request,) = listed.index.requests_to_make()
    assert request.stale_since == 3.0


def test_a_newest_first_walk_goes_on_where_a_read_left_it() -> None:
    listed = _List(_history())
    for cursor in (None, "25", "15"):
        listed.begin()
        (request,) = listed.index.requests_to_make()
        assert request.bookmark.cursor == cursor
        listed.answer(request)
    assert listed.read(now=9.0) == ["5", None]
    assert listed.index.walked_in == 4
    assert listed.counts() == {"stopped": 35}


def test_an_oldest_first_walk_goes_on_behind_what_was_settled() -> None:
    listed = _List(_history(), newest_first=False)
    for cursor in (None, "9", "19"):
        listed.begin()
        (request,) = listed.index.requests_to_make()
        assert request.bookmark.cursor == cursor
        listed.answer(request)
    assert listed.read() == ["29"]
    assert listed.counts() == {"stopped": 35}


def test_an_index_is_complete_only_when_what_its_walk_met_early_was_read_since() -> None:
    listed = _List(_history(live=[34, 3]))
    for _ in range(3):
        listed.begin()
        (request,) = listed.index.requests_to_make()
        listed.answer(request)
    listed.begin()
    (request,) = listed.index.requests_to_make()
    listed.answer(request)
    assert listed.index.ended_in == 4
    assert not listed.index.complete
    (request,) = listed.index.requests_to_make()
    listed.answer(request)
    assert listed.index.complete


@pytest.mark.parametrize(
    ("live", "asked"),
    [
        pytest.param(3, [None], id="what arrived since the walk began"),
        pytest.param(17, [None, "25"], id="and what the walk met before its last read"),
    ],
)
def test_a_walk_of_several_reads_completes_an_index_once_everything_is_as_young_as_its_end(
    live: int, asked: list[str | None]
) -> None:
    listed = _List(_history(live=[live]))
    for _ in range(4):
        listed.begin()
        (request,) = listed.index.requests_to_make()
        listed.answer(request)
    assert (listed.index.ended_in, listed.index.last_walk) == (4, 1)
    cursors = []
    while not listed.index.complete:
        (request,) = listed.index.requests_to_make()
        cursors.append(request.bookmark.cursor)
        listed.answer(request)
    assert cursors == asked
    assert listed.index.last_walk == 2


def test_a_list_without_an_order_is_complete_when_a_walk_has_ended_however_many_reads_that_took() -> None:
    listed = _List(_history(live=[34]), order=Order.NEITHER)
    for _ in range(4):
        assert not listed.index.complete
        listed.begin()
        (request,) = listed.index.requests_to_make()
        listed.answer(request)
    assert listed.index.complete


# ---- cursors that are refused


def test_a_newest_first_walk_starts_again_once_when_its_cursor_is_refused() -> None:
    listed = _List(_history())
    listed.read(watermark=50.0)
    listed.items += [finished(str(n), n) for n in range(100, 130)]
    listed.begin()
    (request,) = listed.index.requests_to_make()
    listed.answer(request)
    (request,) = listed.index.requests_to_make()
    assert listed.index.cursor_rejected(request)
    (request,) = listed.index.requests_to_make()
    assert request.bookmark.cursor is None
    assert not listed.index.cursor_rejected(request)


def test_a_first_walk_does_not_start_again() -> None:
    listed = _List(_history())
    listed.begin()
    (request,) = listed.index.requests_to_make()
    listed.answer(request)
    (request,) = listed.index.requests_to_make()
    assert not listed.index.cursor_rejected(request)


def test_a_walk_that_starts_at_a_cursor_can_not_start_again_without_it() -> None:
    listed = _List(_history(), newest_first=False)
    listed.read()
    listed.begin()
    (request,) = listed.index.requests_to_make()
    assert not listed.index.cursor_rejected(request)


def test_without_a_bookmark_that_is_refused_the_one_before_it_serves() -> None:
    listed = _List(_history(live=[17]))
    listed.read()
    listed.begin()
    (walk,) = listed.index.requests_to_make()
    listed.answer(walk)
    (segment,) = listed.index.requests_to_make()
    assert listed.index.cursor_rejected(segment)
    cursors = []
    while requests := listed.index.requests_to_make():
        cursors += [request.bookmark.cursor for request in requests]
        for request in requests:
            listed.answer(request)
    assert cursors == ["25"]
    assert listed.index.current


# ---- what a page shows


def test_items_that_are_not_settled_are_kept_by_id_and_those_that_vanish_are_dropped() -> None:
    listed = _List(_history())
    listed.read(watermark=30.5)
    assert set(listed.index.items.recent) == {"31", "32", "33", "34"}
    del listed.items[33]
    listed.read(watermark=30.5)
    assert set(listed.index.items.recent) == {"31", "32", "34"}
    assert listed.counts() == {"stopped": 34}
    listed.read(watermark=50.0)
    assert listed.index.items.recent == {}
    assert listed.counts() == {"stopped": 34}


def test_the_watermark_never_goes_back() -> None:
    listed = _List(_history())
    listed.read(watermark=50.0)
    listed.read(watermark=20.0)
    assert listed.index._watermark == 50.0


def test_a_live_item_that_its_page_does_not_show_is_gone() -> None:
    listed = _List(_history(live=[17, 33]))
    listed.read()
    listed.items = [item for item in listed.items if item.id not in {"17", "33"}]
    listed.read()
    assert listed.counts() == {"stopped": 33}


def test_a_settled_item_that_is_alive_again_is_a_contradiction() -> None:
    listed = _List(_history())
    listed.read()
    listed.items[33] = active("33", 33)
    with pytest.raises(Contradiction, match="alive again") as found:
        listed.read()
    assert found.value.unexpected_item


def test_a_settled_live_item_under_a_new_id_is_the_same_item(*, newest_first: bool) -> None:
    listed = _List(_history(live=[17]), newest_first=newest_first)
    listed.read()
    listed.items[17] = queued("new", 17)
    listed.read()
    assert listed.counts() == {"stopped": 34, "queued": 1}
    assert set(listed.index.items.live) == {"new"}
    assert set(listed.detector._seen_by_id) == {"new"}


def test_a_page_that_leads_to_itself_is_a_contradiction() -> None:
    listed = _List(_history())
    listed.begin()
    (request,) = listed.index.requests_to_make()
    listed.answer(request)
    (request,) = listed.index.requests_to_make()
    page = WorkPage(listed.page(request.bookmark.cursor).items, request.bookmark.cursor)
    with pytest.raises(Contradiction, match="leads to itself"):
        listed.index.receive_page(request, page, 0.0)


@pytest.mark.parametrize("wrong", [queued("wrong", 99), WorkItem("wrong", State.QUEUED)])
def test_an_order_that_is_broken_is_a_contradiction(wrong: WorkItem) -> None:
    listed = _List(_history())
    listed.read()
    listed.begin()
    (request,) = listed.index.requests_to_make()
    items = listed.page(None).items
    with pytest.raises(Contradiction) as found:
        listed.index.receive_page(request, WorkPage((*items, wrong), None), 0.0)
    assert found.value.disorder


def test_an_item_shown_on_two_pages_is_counted_once_with_and_without_an_order() -> None:
    for order in (Order.UNKNOWN, Order.NEITHER):
        listed = _List(_history(), order=order)
        listed.begin()
        (request,) = listed.index.requests_to_make()
        listed.answer(request)
        (request,) = listed.index.requests_to_make()
        page = listed.page(request.bookmark.cursor)
        again = listed.page(None).items[-3:]
        listed.index.receive_page(request, WorkPage((*again, *page.items), page.next_cursor), 0.0)
        while requests := listed.index.requests_to_make():
            listed.answer(requests[0])
        assert listed.counts() == {"stopped": 35}


def test_a_list_without_an_order_is_complete_after_one_walk_and_keeps_no_bookmarks_to_ask_for() -> None:
    listed = _List(_history(live=[17]), order=Order.NEITHER)
    assert len(listed.read()) == 4
    assert listed.index.complete
    assert not listed.index.ordered
    assert len(listed.read()) == 4


def _ended(item_id: str, created_at: float, stopped_at: float) -> WorkItem:
    return WorkItem(item_id, State.STOPPED, created_at, None, None, None, stopped_at, stopped_at)


def test_a_finished_item_under_an_unknown_id_is_the_missing_one(*, newest_first: bool) -> None:
    listed = _List(_history(live=[17]), newest_first=newest_first)
    listed.read()
    listed.detector.baseline = False
    listed.items[17] = _ended("new", 17.0, 60.0)
    listed.read()
    assert listed.counts() == {"stopped": 35}
    assert listed.index.items.live == {}
    assert [(each.step, each.item.id) for each in listed.detector.take_transitions()] == [(Step.STOPPED, "new")]


@pytest.mark.parametrize(
    ("stopped_at", "stopped"),
    [(60.0, 35), (39.0, None), (38.0, None), (36.5, None), (30.0, 34)],
)
def test_of_forgotten_items_the_end_tells_whether_one_is_the_missing_one(
    stopped_at: float, stopped: int | None
) -> None:
    listed = _List(_history(live=[17]))
    listed.detector.learn_clock(listed.items, 0.0)  # the newest instant is 38
    listed.read()
    listed.detector._remembered.floor = 34.0
    listed.items[17] = _ended("other", 17.0, stopped_at)
    if stopped is None:
        with pytest.raises(Contradiction, match="a new id"):
            listed.read()
    else:
        listed.read()
        assert listed.counts() == {"stopped": stopped}


def test_a_finished_item_that_appears_where_everything_was_met_is_a_contradiction() -> None:
    listed = _List(_history())
    listed.read()
    listed.detector.baseline = False
    listed.items.append(finished("new", 32))
    with pytest.raises(Contradiction, match="appeared") as found:
        listed.read()
    assert found.value.unexpected_item
    assert "new" in listed.detector._seen_by_id


def test_a_live_item_that_appears_where_everything_was_met_is_a_contradiction() -> None:
    listed = _List(_history())
    listed.read()
    listed.items.append(active("new", 32))
    with pytest.raises(Contradiction, match="appeared"):
        listed.read()
    assert "new" in listed.detector._seen_by_id


def test_a_sealed_item_created_at_the_same_instant_as_a_live_one_is_distinguished() -> None:
    listed = _List([*_history(live=[32]), finished("twin", 32)])
    listed.read()
    listed.read()
    assert listed.counts() == {"stopped": 35, "active": 1}


def test_bookmarks_that_no_live_item_needs_are_dropped_when_a_read_begins(*, newest_first: bool) -> None:
    listed = _List(_history(100, live=[17, 55]), newest_first=newest_first)
    for _ in range(5):
        listed.read()
    listed.begin()
    assert listed.index.segments <= 4
    listed.items[17], listed.items[55] = finished("17", 17), finished("55", 55)
    for _ in range(3):
        listed.read()
    listed.begin()
    assert listed.index.segments <= 2


# ---- what is known of an index that could not read everything


def _ask_and_answer(listed: _List, number: int) -> None:
    for _ in range(number):
        (request,) = listed.index.requests_to_make()
        listed.answer(request)


def test_before_the_first_walk_ends_nobody_knows_how_old_the_oldest_reading_is() -> None:
    listed = _List(_history(live=[17]))
    assert listed.index.oldest_read_at() is None
    listed.begin()
    _ask_and_answer(listed, 3)
    assert listed.index.oldest_read_at() is None
    assert not listed.index.complete


def test_an_index_whose_walk_was_skipped_is_not_current() -> None:
    listed = _List(_history())
    listed.read()
    listed.begin()
    (walk,) = listed.index.requests_to_make()
    listed.index.skipped(walk)
    assert not listed.index.current
    assert listed.index.complete


def test_a_skipped_segment_leaves_the_index_as_old_as_its_last_reading() -> None:
    listed = _List(_history(live=[17]))
    listed.read(now=1.0)
    listed.now = 5.0
    listed.begin()
    _ask_and_answer(listed, 1)
    (segment,) = listed.index.requests_to_make()
    listed.index.skipped(segment)
    assert listed.index.requests_to_make() == []
    assert not listed.index.current
    assert listed.index.oldest_read_at() == 1.0


def test_a_walk_is_as_old_as_its_first_page() -> None:
    listed = _List(_history())
    listed.begin()
    for listed.now in (1.0, 2.0, 3.0, 4.0):
        _ask_and_answer(listed, 1)
    assert listed.index.oldest_read_at() == 1.0


def test_segments_that_an_earlier_read_left_unanswered_are_asked_for_again() -> None:
    listed = _List(_history(live=[17]))
    listed.read()
    listed.begin()
    _ask_and_answer(listed, 1)
    assert len(listed.index.requests_to_make()) == 1
    assert listed.read() == [None, "25"]
    assert listed.index.current


def test_while_a_segment_is_under_way_no_other_is_asked_for() -> None:
    listed = _List(_history(55, live=[17, 33]))
    listed.read()
    listed.begin()
    _ask_and_answer(listed, 1)
    first, second = listed.index.requests_to_make()
    listed.answer(first)
    assert listed.index.requests_to_make() == []
    listed.answer(second)
    assert listed.index.current


def test_live_items_that_the_walk_will_meet_are_not_asked_for_besides() -> None:
    listed = _List(_history(live=[30]), newest_first=False)
    listed.read()
    listed.begin()
    assert [request.is_walk for request in listed.index.requests_to_make()] == [True]


def test_a_first_walk_asks_for_no_segments_whatever_it_has_met() -> None:
    listed = _List(_history(live=[5]), newest_first=False)
    listed.begin()
    _ask_and_answer(listed, 2)
    listed.begin()
    assert [request.is_walk for request in listed.index.requests_to_make()] == [True]


def test_a_list_without_an_order_is_never_read_in_parts() -> None:
    listed = _List(_history(live=[17]), order=Order.NEITHER)
    listed.read()
    listed.begin()
    (walk,) = listed.index.requests_to_make()
    listed.index.skipped(walk)
    assert listed.index.requests_to_make() == []


def test_a_refused_segment_is_no_matter_of_the_walk() -> None:
    listed = _List(_history(live=[17]), newest_first=False)
    listed.read()
    listed.begin()
    _, segment = listed.index.requests_to_make()
    assert listed.index.cursor_rejected(segment)


def test_far_behind_its_bookmark_an_item_is_reached_in_steps() -> None:
    listed = _List(_history(live=[7]))
    listed.read()
    listed.begin()
    _ask_and_answer(listed, 1)
    (segment,) = listed.index.requests_to_make()
    assert segment.bookmark.cursor == "15"
    assert listed.index.cursor_rejected(segment)
    cursors = []
    while requests := listed.index.requests_to_make():
        cursors += [request.bookmark.cursor for request in requests]
        for request in requests:
            listed.answer(request)
    assert cursors == ["25", "15"]
    assert listed.index.current


def test_a_segment_in_another_order_is_a_contradiction() -> None:
    listed = _List(_history(live=[17]))
    listed.read()
    listed.begin()
    _ask_and_answer(listed, 1)
    (segment,) = listed.index.requests_to_make()
    page = listed.page(segment.bookmark.cursor)
    with pytest.raises(Contradiction) as found:
        listed.index.receive_page(segment, WorkPage(page.items[::-1], page.next_cursor), 0.0)
    assert found.value.disorder


def test_an_end_of_the_list_that_has_slipped_before_the_walk_s_start_is_a_contradiction() -> None:
    listed = _List(_history(), newest_first=False)
    listed.read(watermark=34.5)
    assert listed.index._bookmarks.start.cursor == "29"
    listed.read(watermark=34.5)
    listed.begin()
    (request,) = listed.index.requests_to_make()
    with pytest.raises(Contradiction, match="slipped"):
        listed.index.receive_page(request, WorkPage((finished("new", 99),), None), 0.0)


def test_a_list_whose_pages_bring_nothing_new_does_not_end() -> None:
    listed = _List(_history())
    listed.begin()
    page = listed.page(None).items
    for number in range(3):
        (request,) = listed.index.requests_to_make()
        listed.index.receive_page(request, WorkPage(page, f"cursor {number}"), 0.0)
    (request,) = listed.index.requests_to_make()
    with pytest.raises(Contradiction, match="does not end"):
        listed.index.receive_page(request, WorkPage(page, "cursor 3"), 0.0)


def test_a_page_of_which_a_single_item_is_new_gets_the_walk_on() -> None:
    listed = _List(_history())
    listed.begin()
    for number in range(10, 2, -1):
        (request,) = listed.index.requests_to_make()
        shown = tuple(finished(str(n), n) for n in (number + 1, number))
        listed.index.receive_page(request, WorkPage(shown, f"cursor {number}"), 0.0)
    assert listed.counts() == {"stopped": 9}


# ---- what a page shows, and what it does not


def test_an_item_created_at_the_watermark_is_not_settled() -> None:
    listed = _List(_history())
    listed.read(watermark=34.0)
    assert set(listed.index.items.recent) == {"34"}


def test_what_was_created_less_than_the_allowed_lateness_ago_is_not_settled() -> None:
    listed = _List(_history(), lateness_s=5.0)
    listed.read(watermark=36.0)
    assert set(listed.index.items.recent) == {"31", "32", "33", "34"}


def test_finished_items_are_not_followed_any_more_once_they_are_settled() -> None:
    listed = _List(_history(live=[17]))
    listed.detector.baseline = False
    listed.read(watermark=30.5)
    assert set(listed.detector._seen_by_id) == {"17", "31", "32", "33", "34"}
    listed.read(watermark=50.0)
    assert set(listed.detector._seen_by_id) == {"17"}


def test_an_unknown_item_where_the_walk_has_been_is_a_contradiction() -> None:
    listed = _List(_history())
    listed.clock.shows = 0.0
    listed.begin()
    _ask_and_answer(listed, 1)
    (request,) = listed.index.requests_to_make()
    with pytest.raises(Contradiction, match="where the walk has been") as found:
        listed.index.receive_page(request, WorkPage((finished("new", 30.5),), None), 0.0)
    assert found.value.unexpected_item


def test_without_an_order_items_may_be_shown_in_any_and_a_page_says_nothing_of_those_it_does_not_show() -> None:
    listed = _List(_history(live=[30]), order=Order.NEITHER)
    listed.read()
    listed.begin()
    (request,) = listed.index.requests_to_make()
    shown = tuple(listed.items[number] for number in (34, 5, 32))
    listed.index.receive_page(request, WorkPage(shown, "next"), 0.0)
    assert listed.counts() == {"stopped": 34, "active": 1}


def test_of_several_live_items_the_one_of_the_same_instant_has_got_the_new_id() -> None:
    listed = _List(_history(live=[17, 6]))
    listed.read()
    listed.items[6] = queued("new", 6)
    listed.begin()
    _ask_and_answer(listed, 1)
    requests = listed.index.requests_to_make()
    assert [request.bookmark.cursor for request in requests] == ["25", "15"]
    for request in reversed(requests):
        listed.answer(request)
    assert set(listed.index.items.live) == {"17", "new"}


@pytest.mark.parametrize("twin_first", [False, True])
@pytest.mark.parametrize("instant", [25, 32], ids=["on two pages", "on one page"])
def test_an_item_that_this_read_shows_has_not_got_a_new_id(*, instant: int, twin_first: bool) -> None:
    twin = _ended("twin", float(instant), 60.0)
    history = _history(live=[instant, 20])
    listed = _List([twin, *history] if twin_first else [*history, twin])
    listed.read()
    listed.detector._remembered.floor = 40.0  # so that the id of the twin is not remembered
    listed.read()
    assert listed.counts() == {"stopped": 34, "active": 2}
    assert set(listed.index.items.live) == {str(instant), "20"}


def test_items_that_arrive_move_those_that_could_not_be_read_again() -> None:
    listed = _List(_history(live=[17]))
    listed.read(watermark=34.5)
    assert listed.index.items.live["17"].offset == 17
    listed.items += [finished(str(n), n) for n in range(35, 38)]
    listed.clock.shows = 37.5
    listed.begin()
    _ask_and_answer(listed, 1)
    assert listed.index.items.live["17"].offset == 20


# ---- what the ledger asks of an index


def test_an_index_that_has_read_nothing_is_not_current_and_one_that_has_is() -> None:
    listed = _List([])
    assert (listed.index.current, listed.index.page_size) == (False, SIZE)
    listed.read()
    assert listed.index.current


def test_a_walk_that_an_earlier_read_left_unanswered_is_asked_for_again() -> None:
    listed = _List(_history())
    for _ in range(2):
        listed.begin()
        (request,) = listed.index.requests_to_make()
        assert request.is_walk


@pytest.mark.parametrize(("live", "segments"), [((), 1), ((5,), 2), ((5, 15), 3), ((5, 15, 25, 35, 45), 6)])
def test_there_is_a_segment_for_the_start_of_the_list_and_for_each_page_of_live_items(
    live: tuple[int, ...], segments: int
) -> None:
    listed = _List(_history(65, live=live))
    listed.read()
    listed.read()
    listed.begin()
    assert listed.index.segments == segments


@pytest.mark.parametrize(
    ("live", "order", "compares"),
    [
        pytest.param((5, 15, 25), Order.UNKNOWN, False, id="four pages are all read"),
        pytest.param((5, 15, 25, 35), Order.UNKNOWN, True, id="of five pages some are spared"),
        pytest.param((5, 15, 25, 35), Order.NEITHER, False, id="without an order everything is read"),
    ],
)
def test_the_stats_are_of_use_where_they_spare_pages(live: tuple[int, ...], order: Order, *, compares: bool) -> None:
    listed = _List(_history(65, live=live), order=order)
    for _ in range(2):
        listed.read()
    listed.begin()
    assert listed.index.compares_stats is compares


def test_before_a_walk_has_ended_the_stats_are_of_no_use() -> None:
    listed = _List(_history(95, live=range(0, 95, 10)), newest_first=False)
    listed.begin()
    _ask_and_answer(listed, 8)
    assert listed.index.segments > 4
    assert not listed.index.compares_stats


def test_an_index_inherits_how_young_the_knowledge_of_an_item_is_that_is_queued_in_both() -> None:
    items = [queued("queued", 1), queued("left", 2), active("came back", 3), active("active", 4), queued("younger", 5)]
    before = _List([*items, *_history()[10:]])
    before.read(now=7.0)
    before.index.items.live["younger"].read_at = 2.0
    states = {"left": active("left", 2), "came back": queued("came back", 3)}
    after = _List([*(states.get(item.id, item) for item in items), queued("new", 6), *_history()[10:]])
    after.read(now=3.0)
    after.index.inherit(before.index)
    read_at = {item_id: tracked.read_at for item_id, tracked in after.index.items.live.items()}
    assert read_at == {"queued": 7.0, "left": 3.0, "came back": 3.0, "active": 3.0, "younger": 3.0, "new": 3.0}

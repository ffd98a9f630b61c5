from __future__ import annotations

import pytest

from exporter.api.wire import State, WorkItem
from exporter.listing.bookmarks import Bookmark
from exporter.listing.items import ListedItems
from tests.listing.made import active, finished, newest_first, page_read, queued, tracked


def _counts(items: ListedItems) -> dict[str, int]:
    return {state.value: count for state, count in items.count_by_state().items() if count}


@pytest.mark.parametrize(
    ("item", "settled", "kept"),
    [
        (queued("a", 1), False, "recent"),
        (finished("a", 1), False, "recent"),
        (queued("a", 1), True, "live"),
        (finished("a", 1), True, "sealed"),
        (WorkItem("a", State.UNKNOWN, 1.0, stopped_at=2.0), True, "sealed"),
        (WorkItem("a", State.UNKNOWN, 1.0), True, "live"),
    ],
)
def test_every_item_is_kept_in_one_place(item: WorkItem, settled: bool, kept: str) -> None:  # noqa: FBT001 - a parameter
    items = ListedItems()
    items.add(tracked(item), settled=settled)
    assert [len(items.recent), len(items.live), sum(items.sealed.values())] == [
        kept == "recent",
        kept == "live",
        kept == "sealed",
    ]
    assert _counts(items) == {item.state.value: 1}
    assert items.ids() == ({"a"} if kept != "sealed" else frozenset())
    assert (items.get("a") is None) == (kept == "sealed")


def test_recent_items_that_are_old_enough_are_kept_among_the_live_ones_or_as_a_number() -> None:
    items = ListedItems()
    for item in (active("a", 1), finished("b", 1), active("c", 2), finished("d", 3)):
        items.add(tracked(item), settled=False)
    items.add(tracked(finished("e", 1), walk=2), settled=False)
    assert [item.id for item in items.settle(2.0, met_by=1)] == ["a", "b"]
    items.drop_recent(unless_met_by=1)
    assert (set(items.live), set(items.recent), items.sealed[State.STOPPED]) == ({"a"}, {"c", "d"}, 1)
    assert _counts(items) == {"active": 2, "stopped": 2}


def test_a_live_item_that_finishes_becomes_a_number() -> None:
    items = ListedItems()
    items.add(each := tracked(active("a", 1), read=1), settled=True)
    assert items.renew(each, finished("a", 1), 5, page_read([], read=2, now=30.0))
    assert (items.live, _counts(items)) == ({}, {"stopped": 1})
    assert (each.offset, each.read, each.read_at) == (5, 2, 30.0)


def test_a_recent_item_that_finishes_stays_recent() -> None:
    items = ListedItems()
    items.add(each := tracked(active("a", 1)), settled=False)
    items.renew(each, finished("a", 1), 0, page_read([], read=2))
    assert (set(items.recent), _counts(items)) == ({"a"}, {"stopped": 1})


def test_of_two_answers_of_one_read_the_one_that_is_further_is_believed() -> None:
    items = ListedItems()
    items.add(each := tracked(active("a", 1), read=2, read_at=1.0), settled=True)
    assert not items.renew(each, queued("a", 1), 7, page_read([], read=2, now=9.0))
    assert (each.item.state, each.read_at, each.offset) == (State.ACTIVE, 1.0, 7)
    assert items.renew(each, active("a", 1), 7, page_read([], read=2, now=9.0))
    assert each.read_at == 9.0


def test_an_item_may_go_back_to_an_earlier_state_from_one_read_to_the_next() -> None:
    items = ListedItems()
    items.add(each := tracked(active("a", 1), read=2), settled=True)
    assert items.renew(each, queued("a", 1), 0, page_read([], read=3))
    assert each.item.state is State.QUEUED


def test_a_renamed_item_is_found_under_its_new_id_alone() -> None:
    items = ListedItems()
    items.add(each := tracked(active("a", 1)), settled=True)
    assert items.rename("a", "b") is each
    assert (items.get("a"), items.get("b")) == (None, each)


def test_live_items_that_a_page_should_show_and_does_not_are_dropped() -> None:
    items = ListedItems()
    for number in range(1, 7):
        items.add(tracked(active(str(number), number), read=2 if number == 3 else 1), settled=True)
    page = page_read([finished("x", 5), finished("y", 2)], "next", read=2)
    assert [item.id for item in items.drop_missing(page, newest_first)] == ["4", "5", "6"]
    assert set(items.live) == {"1", "2", "3"}


def test_finished_items_are_not_among_the_unfinished() -> None:
    items = ListedItems()
    waiting, running, over = queued("a", 3), active("b", 2), finished("c", 1)
    for item in (waiting, over):
        items.add(tracked(item), settled=False)
    items.add(tracked(running), settled=True)
    assert items.unfinished() == (running, waiting)


def test_of_the_instants_where_a_page_begins_and_ends_nothing_is_known() -> None:
    items = ListedItems()
    for number in (2, 3, 6):
        items.add(tracked(active(str(number), number)), settled=True)
    behind = Bookmark("c", issued_in=2, low=-6.0)
    page = page_read([finished("x", 5), finished("y", 2)], "next", bookmark=behind, read=2)
    assert [item.id for item in items.drop_missing(page, newest_first)] == ["3"]


def test_recent_items_that_the_last_walk_did_not_meet_are_dropped() -> None:
    items = ListedItems()
    for number in range(3):
        items.add(tracked(queued(str(number), 1), walk=number), settled=False)
    items.drop_recent(unless_met_by=2)
    assert set(items.recent) == {"2"}


def test_items_that_arrive_move_the_live_ones_that_were_not_met_since() -> None:
    items = ListedItems()
    items.add(met := tracked(active("a", 1), 10, walk=2), settled=True)
    items.add(other := tracked(active("b", 1), 20, walk=1), settled=True)
    items.move(3, except_met_by=2)
    assert (met.offset, other.offset) == (10, 23)


def test_the_live_items_are_fresh_when_each_was_read() -> None:
    items = ListedItems()
    items.add(tracked(active("a", 1), read=4), settled=True)
    items.add(tracked(active("b", 1), read=6), settled=True)
    assert items.are_live_read_since(4)
    assert not items.are_live_read_since(5)


def test_the_creation_times_of_the_live_items_are_known() -> None:
    items = ListedItems()
    items.add(tracked(active("a", 4)), settled=True)
    items.add(tracked(active("b", 5)), settled=False)
    assert items.created_at_of_live() == {4}


def test_each_live_state_shows_since_when_its_oldest_item_is_in_it() -> None:
    items = ListedItems()
    for item, settled in (
        (WorkItem("q1", State.QUEUED, 10.0), False),
        (WorkItem("q2", State.QUEUED, 9.0), True),
        (WorkItem("q3", State.QUEUED, None), True),
        (WorkItem("s1", State.STARTING, 1.0, 20.0), True),
        (WorkItem("a1", State.ACTIVE, 1.0, 2.0, 30.0, 33.0), True),
        (WorkItem("a2", State.ACTIVE, 1.0, 2.0, 31.0, 32.0), True),
        (WorkItem("a3", State.ACTIVE, 1.0, 2.0, 31.0, None), True),
        (WorkItem("p1", State.STOPPING, 1.0, 2.0, 3.0, 31.5, 40.0), True),
        (WorkItem("u1", State.UNKNOWN, 1.0), True),
    ):
        items.add(tracked(item), settled=settled)
    assert items.oldest_at_by_state() == {
        State.QUEUED: 9.0,
        State.STARTING: 20.0,
        State.ACTIVE: 30.0,
        State.STOPPING: 40.0,
    }
    assert items.heartbeats() == (32.0, 33.0)
    assert _counts(items) == {"queued": 3, "starting": 1, "active": 3, "stopping": 1, "unknown": 1}


def test_a_state_that_no_item_is_in_has_no_oldest_one() -> None:
    assert ListedItems().oldest_at_by_state() == dict.fromkeys(
        (State.QUEUED, State.STARTING, State.ACTIVE, State.STOPPING)
    )

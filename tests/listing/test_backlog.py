"""Which of the unread items are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.api.wire import State
from exporter.listing.backlog import FEW_PAGES, SEARCHES_IN_VAIN, UNPROVEN_S, UNREAD_S, Backlog
from exporter.listing.clock_bounds import ClockBounds
from exporter.listing.items import ListedItems
from exporter.listing.queue_balance import EXACT_READS_NEEDED, QueueBalance, QueuedCount, QueuedMeaning
from tests.listing.made import active, queued, tracked

if TYPE_CHECKING:
    from exporter.listing.backlog import Due

NOW = 10_000.0


class _Backlog(Backlog):
    """Ten queued items, "q0" the oldest, and "a", which runs. All were read 30 s ago; "q7" the longest ago."""

    def __init__(self, *, believed: bool = True, read_s_ago: float = 30.0) -> None:
        meaning = QueuedMeaning()
        for _ in range(EXACT_READS_NEEDED if believed else 0):
            meaning.agreed()
        items = ListedItems()
        super().__init__(items, QueueBalance(meaning, ClockBounds(), lateness_s=12.0))
        for number in range(10):
            read_at = NOW - read_s_ago - (number == 7)
            items.live[f"q{number}"] = tracked(queued(f"q{number}", 100 + number), number, read_at=read_at)
        items.live["a"] = tracked(active("a", 50), 10, read_at=NOW - read_s_ago)
        self.items = items

    def ask(self, *read: str, open_end: bool = True) -> tuple[list[str], list[str]]:
        """Return the ids that are due now and those that can wait, when these were read. With none, the read is at its end."""
        unread = [each for item_id, each in self.items.live.items() if item_id not in read]
        due: Due = self.due(unread, is_open_end_read=open_end)
        if open_end and not (due.now or due.can_wait):
            self.conclude(unread)
        return [each.item.id for each in due.now], [each.item.id for each in due.can_wait]


def _begun(count: int | None, *, believed: bool = True, read_s_ago: float = 30.0, pages: int = 10) -> _Backlog:
    backlog = _Backlog(believed=believed, read_s_ago=read_s_ago)
    backlog.begin(NOW, None if count is None else QueuedCount(count, NOW, NOW), pages=pages)
    return backlog


def test_where_pages_are_few_all_are_read_at_once() -> None:
    assert len(_begun(10, pages=FEW_PAGES).ask()[0]) == 11
    assert _begun(10, pages=FEW_PAGES + 1).ask() == (["a"], [])


def test_where_the_stats_say_nothing_and_never_have_all_are_read_at_once() -> None:
    assert len(_begun(None, believed=False).ask()[0]) == 11


def test_what_is_not_queued_comes_first() -> None:
    assert _begun(10).ask() == (["a"], [])


def test_queued_items_need_no_reading_where_the_stats_count_them_all() -> None:
    assert _begun(10).ask("a") == ([], [])


def test_nothing_is_searched_before_the_open_end_is_read() -> None:
    assert _begun(8).ask("a", open_end=False) == ([], [])


def test_items_that_have_moved_are_looked_for_among_the_oldest_and_after_some_pages_everywhere() -> None:
    backlog = _begun(8)
    read = ["a"]
    for number in range(SEARCHES_IN_VAIN):
        assert backlog.ask(*read) == ([f"q{number}"], [])
        read.append(f"q{number}")
    assert backlog.ask(*read) == ([f"q{number}" for number in range(SEARCHES_IN_VAIN, 10)], [])


def test_the_oldest_are_looked_at_as_long_as_some_are_found_there() -> None:
    backlog = _begun(8)
    assert backlog.ask("a") == (["q0"], [])
    del backlog.items.live["q0"]
    assert backlog.ask("a") == (["q1"], [])
    del backlog.items.live["q1"]
    assert backlog.ask("a") == ([], [])


def test_where_one_has_perhaps_moved_one_page_is_read() -> None:
    backlog = _begun(10)
    backlog.balance.gone(queued("b", 90.0))
    assert backlog.ask("a") == (["q0"], [])
    assert backlog.ask("a", "q0") == ([], [])


def test_stats_that_are_not_believed_yet_spare_nothing_but_show_where_to_look_first() -> None:
    backlog = _begun(8, believed=False)
    assert backlog.ask("a") == (["q0"], [])
    assert backlog.ask("a", "q0") == ([f"q{number}" for number in range(1, 10)], [])


def test_stats_that_are_not_believed_yet_leave_nothing_to_be_read_if_there_are_calls_to_spare() -> None:
    assert _begun(8, believed=False, read_s_ago=UNREAD_S + 1).ask("a") == (["q0"], [])


def test_stats_that_count_less_than_all_pages_show_are_not_believed_any_more() -> None:
    backlog = _begun(8)
    assert backlog.ask(*backlog.items.live) == ([], [])
    assert not backlog.balance.is_believed


@pytest.mark.parametrize("others", [True, False])
def test_stats_are_believed_to_count_queued_items_only_where_others_are_alive(*, others: bool) -> None:
    backlog = _Backlog(believed=False)
    if not others:
        del backlog.items.live["a"]
    for number in range(EXACT_READS_NEEDED):
        backlog.begin(NOW + number, QueuedCount(10, NOW + number, NOW + number), pages=10)
        backlog.ask(*backlog.items.live)
    assert backlog.balance.is_believed is others


def test_without_stats_that_is_read_of_which_nothing_was_proven_for_long() -> None:
    assert _begun(None, read_s_ago=UNPROVEN_S - 5).ask("a") == ([], [])
    assert _begun(None, read_s_ago=UNPROVEN_S).ask("a") == (["q7"], [])
    assert len(_begun(None, read_s_ago=UNPROVEN_S + 5).ask("a")[0]) == 10


def test_what_is_proven_is_known_as_of_the_proof_for_queued_items_alone() -> None:
    backlog = _Backlog()
    backlog.balance.proven_at = NOW - 10
    assert backlog.known_at(backlog.items.live["q3"]) == NOW - 10
    assert backlog.known_at(backlog.items.live["a"]) == NOW - 30
    backlog.balance.proven_at = NOW - 60
    assert backlog.known_at(backlog.items.live["q3"]) == NOW - 30
    assert backlog.items.live["q3"].item.state is State.QUEUED


def test_one_page_a_read_is_read_again_however_much_is_proven() -> None:
    for due, read_s_ago in (([], UNREAD_S - 1), (["q7"], UNREAD_S - 0.5), (["q7"], UNREAD_S + 1)):
        backlog = _begun(10, read_s_ago=read_s_ago)
        backlog.balance.proven_at = NOW - 10
        assert backlog.ask() == (["a"], due)
        assert backlog.ask("a") == ([], [])

"""What the stats' count proves of the queued items that a read did not show, and what it does not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from exporter.api.wire import State, WorkItem
from exporter.listing.bookmarks import INFINITY
from exporter.listing.clock_bounds import ClockBounds
from exporter.listing.queue_balance import EXACT_READS_NEEDED, QueueBalance, QueuedCount, QueuedMeaning
from tests.listing.made import finished, queued

AHEAD_S = 1000.0
LATENESS_S = 12.0
UNREAD = 40


def _acknowledged(item: WorkItem, at: float) -> WorkItem:
    return replace(item, state=State.STARTING, acknowledged_at=at)


class _Queue:
    """Reads every 15 s: the stats are made within 0.2 s, and the pages shown 0.1 s later. The items' clock is 1,000 s ahead."""

    def __init__(self, *, believed: bool = True) -> None:
        self.clock = ClockBounds()
        self.clock.learn(AHEAD_S + 0.01, shown_at=0.02, not_before=0.0)
        self.meaning = QueuedMeaning()
        for _ in range(EXACT_READS_NEEDED if believed else 0):
            self.meaning.agreed()
        self.balance = QueueBalance(self.meaning, self.clock, lateness_s=LATENESS_S)
        self.now = 1000.0

    def begin(self, count: int | None, *, after_s: float = 15.0) -> None:
        self.now += after_s
        self.balance.begin(
            self.now, None if count is None else QueuedCount(count, self.now, self.now + 0.2), looks_on=True
        )

    def saw(self, before: WorkItem | None, item: WorkItem) -> None:
        self.balance.page_arrived(self.now + 0.3)
        self.balance.saw(before, item, shown_at=self.now + 0.3, not_before=-INFINITY)

    def conclude(self, known: int, *, others: int = 1, all_shown: bool = False) -> None:
        self.balance.conclude(known, others=others, shown_since=INFINITY if all_shown else self.now - 40.0)

    def instant(self, since_stats_s: float) -> float:
        """Return an instant of the items' clock."""
        return AHEAD_S + self.now + since_stats_s

    @property
    def proven_s_ago(self) -> float:
        return self.now - self.balance.proven_at


def _two_reads(count: int, known: int) -> _Queue:
    queue = _Queue()
    for _ in range(2):
        queue.begin(count)
        queue.conclude(known)
    return queue


def test_an_equal_count_proves_at_the_next_read_that_nothing_had_moved() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    assert (queue.balance.moved_at_least(UNREAD), queue.balance.moved_at_most(UNREAD)) == (0, 0)
    queue.conclude(UNREAD)
    assert queue.balance.proven_at == -INFINITY
    queue.begin(UNREAD)
    queue.conclude(UNREAD)
    assert queue.proven_s_ago == 15.0


def test_a_smaller_count_tells_how_many_have_moved() -> None:
    queue = _Queue()
    queue.begin(UNREAD - 3)
    assert (queue.balance.moved_at_least(UNREAD), queue.balance.moved_at_most(UNREAD)) == (3, 3)


def test_without_a_count_nothing_is_proven_and_nothing_looked_for() -> None:
    queue = _Queue()
    queue.begin(None)
    assert (queue.balance.moved_at_least(UNREAD), queue.balance.moved_at_most(UNREAD)) == (0, INFINITY)
    queue.conclude(UNREAD)
    queue.begin(None)
    queue.conclude(UNREAD)
    assert queue.balance.proven_at == -INFINITY


def test_a_count_from_before_the_last_read_s_pages_is_of_no_use() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.saw(None, queued("a", queue.instant(-5)))
    queue.now += 15.0
    queue.balance.begin(queue.now, QueuedCount(UNREAD - 1, queue.now - 15.0, queue.now - 14.8), looks_on=True)
    assert queue.balance.moved_at_least(UNREAD) == 0


def test_a_proof_lapses_where_a_read_does_not_look_on() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.conclude(UNREAD)
    queue.balance.begin(queue.now + 5.0, None, looks_on=False)
    queue.begin(UNREAD)
    queue.conclude(UNREAD)
    assert queue.balance.proven_at == -INFINITY


def test_an_acknowledgement_after_the_stats_may_hide_another_item_that_has_moved() -> None:
    """The equation holds, although an item of the pages not read has left the queue: `known` counts it still."""
    queue = _Queue()
    queue.begin(UNREAD)
    queue.saw(queued("b", 900.0), _acknowledged(queued("b", 900.0), queue.instant(0.25)))
    assert (queue.balance.moved_at_least(UNREAD), queue.balance.moved_at_most(UNREAD)) == (0, 1)
    queue.conclude(UNREAD)
    queue.begin(None)
    queue.conclude(UNREAD)
    assert queue.balance.proven_at == -INFINITY


def test_an_acknowledgement_before_the_stats_hides_nothing() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.saw(queued("b", 900.0), _acknowledged(queued("b", 900.0), queue.instant(-2)))
    assert queue.balance.moved_at_most(UNREAD) == 0


@pytest.mark.parametrize("ended", [State.STOPPING, State.STOPPED])
def test_a_stop_takes_an_item_out_of_the_queue_like_an_acknowledgement(ended: State) -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    before = queued("b", 900.0)
    queue.saw(before, replace(before, state=ended, stop_requested_at=queue.instant(-2)))
    queue.saw(queued("c", 900.0), replace(queued("c", 900.0), state=ended, stop_requested_at=queue.instant(0.2)))
    assert queue.balance.moved_at_most(UNREAD) == 1


def test_of_two_stops_the_first_takes_an_item_out_of_the_queue() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    stopped = replace(
        queued("b", 900.0),
        state=State.STOPPED,
        stop_requested_at=queue.instant(-2),
        stopped_at=queue.instant(0.2),
    )
    queue.saw(queued("b", 900.0), stopped)
    assert queue.balance.moved_at_most(UNREAD) == 0


def test_an_item_that_was_handed_out_again_may_have_been_queued_in_between() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    before = _acknowledged(queued("b", 900.0), 950.0)
    queue.saw(before, replace(before, acknowledged_at=queue.instant(0.2)))
    assert queue.balance.moved_at_most(UNREAD) == 1


def test_the_items_clock_is_learnt_from_new_items_and_from_heartbeats() -> None:
    queue = _Queue()
    queue.clock.forget()
    queue.begin(UNREAD)
    queue.saw(None, queued("new", queue.instant(-5)))
    assert queue.clock.at_least(0.0) == pytest.approx(AHEAD_S - 5.3)
    running = replace(_acknowledged(queued("b", 900.0), 950.0), latest_heartbeat_at=queue.instant(-30))
    queue.saw(running, replace(running, latest_heartbeat_at=queue.instant(-1)))
    assert queue.clock.at_least(0.0) == pytest.approx(AHEAD_S - 1.3)


def test_a_count_that_was_asked_for_when_the_last_page_came_is_of_use() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.saw(None, queued("a", queue.instant(-5)))
    shown_at = queue.now + 0.3
    queue.balance.begin(shown_at, QueuedCount(UNREAD - 1, shown_at, shown_at), looks_on=True)
    assert queue.balance.moved_at_least(UNREAD) == 1


def test_a_read_is_concluded_once() -> None:
    queue = _Queue(believed=False)
    queue.begin(UNREAD)
    for _ in range(EXACT_READS_NEEDED):
        queue.conclude(UNREAD)
    assert not queue.balance.is_believed


def test_an_item_that_left_the_queue_at_an_unknown_time_may_have_been_in_it() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.saw(queued("b", 900.0), replace(queued("b", 900.0), state=State.UNKNOWN))
    assert queue.balance.moved_at_most(UNREAD) == 1


def test_running_items_that_go_on_say_nothing_of_the_queue() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    before = _acknowledged(queued("b", 900.0), queue.instant(-200))
    queue.saw(before, replace(before, state=State.ACTIVE, started_at=queue.instant(0.2)))
    assert queue.balance.moved_at_most(UNREAD) == 0


def test_an_item_that_is_gone_may_have_been_in_the_queue() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.balance.gone(queued("b", 900.0))
    queue.balance.gone(_acknowledged(queued("c", 900.0), 950.0))  # and have come back into it before it went
    queue.balance.gone(finished("d", 900.0))
    assert queue.balance.moved_at_most(UNREAD) == 2


def test_a_heartbeat_that_steps_back_makes_the_clock_unknown() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    before = replace(
        _acknowledged(queued("b", 900.0), 950.0), state=State.ACTIVE, latest_heartbeat_at=queue.instant(-20)
    )
    queue.saw(before, replace(before, latest_heartbeat_at=queue.instant(-23)))
    assert queue.clock.at_least(0.0) == -INFINITY


def test_stats_that_lack_items_in_read_after_read_are_not_believed_once_all_were_read_since() -> None:
    queue = _Queue()
    for believed in (True, True, True, False):
        queue.begin(UNREAD - 1)
        queue.conclude(UNREAD)
        assert queue.meaning.is_proven is believed


def test_after_each_contradiction_more_reads_must_agree() -> None:
    meaning = QueuedMeaning()
    meaning.contradicted()
    for _ in range(2 * EXACT_READS_NEEDED - 1):
        meaning.agreed()
    assert not meaning.is_proven
    meaning.agreed()
    assert meaning.is_proven


def test_an_arrival_after_the_stats_is_no_sign_of_a_move() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.saw(None, queued("new", queue.instant(0.25)))
    assert (queue.balance.moved_at_least(UNREAD + 1), queue.balance.moved_at_most(UNREAD + 1)) == (0, 1)


def test_an_arrival_before_the_stats_was_counted_by_them() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.saw(None, queued("new", queue.instant(-2)))
    assert queue.balance.moved_at_least(UNREAD + 1) == 1


def test_an_item_that_came_back_is_taken_for_counted_but_proves_nothing_against_the_stats() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.saw(_acknowledged(queued("b", 900.0), 950.0), queued("b", 900.0))
    assert queue.balance.moved_at_least(UNREAD + 1) == 1
    queue.conclude(UNREAD + 1, all_shown=True)
    assert queue.meaning.is_proven


def test_an_item_that_becomes_visible_late_takes_back_what_it_hid() -> None:
    """It was counted by the stats and not shown, while another had moved: the equation held."""
    queue = _Queue()
    queue.begin(UNREAD)
    created_at = queue.instant(-1)
    queue.conclude(UNREAD)
    queue.begin(UNREAD)
    queue.saw(None, queued("late", created_at))
    queue.conclude(UNREAD + 1)
    assert queue.balance.proven_at == -INFINITY


def test_an_item_created_after_the_stats_takes_nothing_back() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.conclude(UNREAD)
    created_at = queue.instant(5)
    queue.begin(UNREAD + 1)
    queue.saw(None, queued("new", created_at))
    queue.conclude(UNREAD + 1)
    assert queue.proven_s_ago == 15.0


def test_what_the_stats_counted_too_many_must_appear() -> None:
    queue = _Queue()
    queue.begin(UNREAD + 1)
    created_at = queue.instant(-1)
    queue.conclude(UNREAD)
    queue.begin(UNREAD + 1)
    queue.saw(None, queued("late", created_at))
    queue.conclude(UNREAD + 1)
    assert queue.proven_s_ago == 15.0


def test_a_proof_waits_until_everything_is_visible() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.conclude(UNREAD)
    asked_at = queue.now
    for apart_s, proven_at in ((5.0, -INFINITY), (8.0, asked_at)):
        queue.now += apart_s
        queue.balance.begin(queue.now, None, looks_on=True)
        queue.conclude(UNREAD)
        assert queue.balance.proven_at == proven_at


def test_stats_that_count_what_is_never_listed_are_not_believed() -> None:
    assert not _two_reads(UNREAD + 1, UNREAD).meaning.is_proven


def test_stats_that_count_less_than_a_whole_read_shows_are_not_believed() -> None:
    queue = _Queue()
    queue.begin(UNREAD - 1)
    queue.conclude(UNREAD, all_shown=True)
    assert not queue.meaning.is_proven


def test_stats_are_believed_after_some_exact_reads_with_running_items() -> None:
    queue = _Queue(believed=False)
    for others, believed in ((0, False), (1, False), (1, False), (0, False), (1, True)):
        queue.begin(UNREAD)
        queue.conclude(UNREAD, others=others)
        assert queue.balance.is_believed is believed


def test_a_read_that_is_exact_only_perhaps_teaches_nothing() -> None:
    queue = _Queue(believed=False)
    for number in range(EXACT_READS_NEEDED + 1):
        queue.begin(UNREAD)
        queue.saw(None, queued(f"new {number}", queue.instant(0.25)))
        queue.conclude(UNREAD)
    assert not queue.balance.is_believed


def test_nothing_is_proven_by_stats_that_are_not_believed() -> None:
    queue = _Queue(believed=False)
    for _ in range(2):
        queue.begin(UNREAD)
        queue.conclude(UNREAD, others=0)
    assert queue.balance.proven_at == -INFINITY


def test_without_knowing_the_items_clock_everything_that_moved_is_uncertain() -> None:
    queue = _Queue()
    queue.balance = QueueBalance(queue.meaning, ClockBounds(), lateness_s=LATENESS_S)
    queue.begin(UNREAD)
    queue.saw(queued("b", 900.0), _acknowledged(queued("b", 900.0), queue.instant(-14)))
    assert queue.balance.moved_at_most(UNREAD) == 1


def test_a_count_is_to_be_compared_until_its_read_is_concluded() -> None:
    queue = _Queue()
    has_count = [queue.balance.has_count]
    queue.begin(UNREAD)
    has_count.append(queue.balance.has_count)
    queue.conclude(UNREAD)
    has_count.append(queue.balance.has_count)
    queue.begin(None)
    has_count.append(queue.balance.has_count)
    queue.balance.begin(queue.now, QueuedCount(UNREAD, queue.now, queue.now), looks_on=False)
    has_count.append(queue.balance.has_count)
    assert has_count == [False, True, False, False, False]


def test_a_larger_count_is_no_sign_of_a_move() -> None:
    queue = _Queue()
    queue.begin(UNREAD + 3)
    assert (queue.balance.moved_at_least(UNREAD), queue.balance.moved_at_most(UNREAD)) == (0, -3)


def test_what_was_uncertain_in_one_read_is_not_in_the_next() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.saw(queued("b", 900.0), _acknowledged(queued("b", 900.0), queue.instant(0.25)))
    queue.begin(UNREAD)
    assert queue.balance.moved_at_most(UNREAD) == 0


def test_an_item_that_is_queued_as_before_says_nothing() -> None:
    queue = _Queue()
    queue.begin(UNREAD - 1)
    queue.saw(queued("b", 900.0), queued("b", 900.0))
    queue.conclude(UNREAD, all_shown=True)
    assert not queue.meaning.is_proven


@pytest.mark.parametrize(("acknowledged_s", "at_most"), [(-2.0, 0), (0.25, 1)])
def test_an_item_that_came_and_left_since_the_last_read_left_before_the_stats_or_perhaps_after(
    acknowledged_s: float, at_most: int
) -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.saw(None, _acknowledged(queued("b", queue.instant(-5)), queue.instant(acknowledged_s)))
    assert queue.balance.moved_at_most(UNREAD) == at_most


def test_an_item_that_came_since_the_last_read_and_was_stopped_unacknowledged_left_when_it_was_stopped() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.saw(None, replace(queued("b", queue.instant(-5)), state=State.STOPPED, stopped_at=queue.instant(-2)))
    assert queue.balance.moved_at_most(UNREAD) == 0


def test_an_item_that_came_back_and_was_stopped_left_when_it_was_stopped() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    before = replace(queued("b", 900.0), acknowledged_at=950.0)
    queue.saw(before, replace(before, state=State.STOPPED, stopped_at=queue.instant(0.2)))
    assert queue.balance.moved_at_most(UNREAD) == 1


def test_an_instant_that_the_items_clock_certainly_showed_when_the_stats_were_asked_for_is_not_later() -> None:
    queue = _Queue()
    queue.clock.forget()
    queue.clock.learn(AHEAD_S, shown_at=0.0)
    queue.begin(UNREAD)
    whole_second = queue.instant(-1)
    queue.saw(None, queued("new", whole_second))
    queue.saw(queued("b", 900.0), _acknowledged(queued("b", 900.0), whole_second))
    assert (queue.balance.moved_at_least(UNREAD + 1), queue.balance.moved_at_most(UNREAD)) == (1, 0)


def test_an_item_that_was_taken_for_gone_and_is_shown_after_all_is_what_it_is_shown_as() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    queue.balance.gone(queued("b", 900.0))
    queue.balance.gone(queued("c", 900.0))
    queue.saw(None, queued("b", 900.0))
    queue.saw(queued("c", 900.0), _acknowledged(queued("c", 900.0), queue.instant(-2)))
    assert queue.balance.moved_at_most(UNREAD) == 0


def test_an_item_that_left_the_queue_after_the_stats_may_be_gone_at_once() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    stopped = replace(queued("b", 900.0), state=State.STOPPED, stopped_at=queue.instant(0.25))
    queue.saw(queued("b", 900.0), stopped)
    queue.balance.gone(stopped)
    assert queue.balance.moved_at_most(UNREAD) == 1


def test_the_items_clock_is_learnt_from_steps_also_where_there_is_no_count() -> None:
    queue = _Queue()
    queue.clock.forget()
    queue.begin(None)
    queue.saw(None, queued("new", queue.instant(-5)))
    queue.saw(queued("b", 900.0), _acknowledged(queued("b", 900.0), queue.instant(-1)))
    assert queue.clock.at_least(0.0) == pytest.approx(AHEAD_S - 1.3)


def test_an_item_on_which_nothing_is_new_tells_nothing_of_the_items_clock() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    running = replace(_acknowledged(queued("b", 900.0), 950.0), latest_heartbeat_at=queue.instant(-30))
    bounds = queue.clock.at_least(0.0), queue.clock.at_most(0.0)
    queue.balance.saw(running, running, shown_at=queue.now + 0.3, not_before=queue.now - 15.0)
    assert (queue.clock.at_least(0.0), queue.clock.at_most(0.0)) == bounds


def test_a_contradiction_voids_the_reads_that_agreed() -> None:
    meaning = QueuedMeaning()
    for _ in range(EXACT_READS_NEEDED):
        meaning.agreed()
    meaning.contradicted()
    for _ in range(2 * EXACT_READS_NEEDED - 1):
        meaning.agreed()
    assert not meaning.is_proven


def test_however_often_the_stats_are_contradicted_96_reads_that_agree_are_enough() -> None:
    meaning = QueuedMeaning()
    for _ in range(10):
        meaning.contradicted()
    for _ in range(95):
        meaning.agreed()
    assert not meaning.is_proven
    meaning.agreed()
    assert meaning.is_proven


@pytest.mark.parametrize(
    ("second", "believed"),
    [
        pytest.param(None, False, id="no count says nothing"),
        pytest.param(UNREAD, True, id="an exact count begins anew"),
    ],
)
def test_what_the_stats_lack_must_be_lacking_in_every_read_that_has_a_count(
    second: int | None, *, believed: bool
) -> None:
    queue = _Queue()
    for count in (UNREAD - 1, second, UNREAD - 1, UNREAD - 1):
        queue.begin(count)
        queue.conclude(UNREAD)
    assert queue.meaning.is_proven is believed


def test_what_was_shown_when_the_stats_were_asked_for_first_was_to_be_counted() -> None:
    queue = _Queue()
    queue.begin(UNREAD - 1)
    queue.balance.conclude(UNREAD, others=1, shown_since=queue.now)
    assert not queue.meaning.is_proven


def test_after_a_contradiction_items_must_be_lacking_anew() -> None:
    queue = _Queue()
    for shown_since in (INFINITY, queue.now + 20.0):
        queue.begin(UNREAD - 1)
        queue.balance.conclude(UNREAD, others=1, shown_since=shown_since)
    for _ in range(2 * EXACT_READS_NEEDED):
        queue.meaning.agreed()
    assert queue.meaning.is_proven


def test_a_count_that_lacks_items_teaches_nothing_although_nothing_has_moved() -> None:
    queue = _Queue(believed=False)
    for _ in range(EXACT_READS_NEEDED):
        queue.begin(UNREAD - 1)
        queue.conclude(UNREAD)
    assert not queue.balance.is_believed


def test_an_inexact_read_does_not_stand_in_the_way_of_the_proof_of_an_exact_one() -> None:
    queue = _Queue()
    for count, after_s in ((UNREAD - 1, 5.0), (UNREAD, 5.0), (None, 13.0)):
        queue.begin(count, after_s=after_s)
        queue.conclude(UNREAD)
    assert queue.proven_s_ago == 13.0


def test_reads_that_follow_fast_do_not_put_off_the_proof_of_the_first() -> None:
    queue = _Queue()
    for _ in range(4):
        queue.begin(UNREAD, after_s=5.0)
        queue.conclude(UNREAD)
    assert queue.proven_s_ago == 15.0


def test_each_read_proves_what_the_one_before_has_found() -> None:
    queue = _Queue()
    for _ in range(3):
        queue.begin(UNREAD)
        queue.conclude(UNREAD)
    assert queue.proven_s_ago == 15.0


def test_everything_is_visible_once_exactly_the_lateness_has_passed() -> None:
    queue = _Queue()
    queue.balance.begin(queue.now, QueuedCount(UNREAD, queue.now, queue.now + 1.0), looks_on=True)
    queue.conclude(UNREAD)
    queue.begin(None, after_s=1.0 + LATENESS_S)
    queue.conclude(UNREAD)
    assert queue.proven_s_ago == 1.0 + LATENESS_S


def test_an_item_created_perhaps_just_when_the_stats_were_answered_takes_back_what_it_may_have_hidden() -> None:
    queue = _Queue()
    queue.begin(UNREAD)
    created_at = queue.clock.at_most(queue.now + 0.2)
    queue.conclude(UNREAD)
    queue.begin(UNREAD + 1)
    queue.saw(None, queued("late", created_at))
    queue.conclude(UNREAD + 1)
    assert queue.balance.proven_at == -INFINITY

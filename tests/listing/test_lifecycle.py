from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.api.wire import State, WorkItem
from exporter.listing.intervals import BEFORE_EVERYTHING
from exporter.listing.items_clock import MEMORY_S
from exporter.listing.lifecycle import (
    ALIKE_LIMIT,
    LONG_AGO,
    RENAMES_LIMIT,
    Step,
    TransitionDetector,
    first_instant,
    is_finished,
    newest_instant,
)
from tests.listing.made import active, finished, observation, queued

if TYPE_CHECKING:
    from collections.abc import Iterable

CREATED, ACKNOWLEDGED, STARTED, STOPPED = Step


def _counting() -> TransitionDetector:
    """Return a detector whose first complete listing was empty."""
    detector = TransitionDetector()
    detector.baseline = False
    return detector


def _emitted(detector: TransitionDetector) -> list[tuple[str, Step]]:
    return [(each.item.id, each.step) for each in detector.take_transitions()]


def _walk(
    detector: TransitionDetector, items: Iterable[WorkItem], *, now: float = 100.0, watermark: float = 0.0
) -> None:
    """Observe the items in one walk through everything, at the end of which all created before the watermark is met."""
    walk = detector.begin_walk()
    shown = list(items)
    detector.learn_clock(shown, now)
    for item in shown:
        detector.observe(item, observation(read=walk, walk=walk, now=now, watermark=watermark))
    detector.met.add(BEFORE_EVERYTHING, watermark)
    detector.tidy(walk, tracked={item.id for item in shown})


# ---- items


@pytest.mark.parametrize(
    ("item", "finished_now"),
    [
        (finished("a", 1), True),
        (active("a", 1), False),
        (WorkItem("a", State.UNKNOWN, 1.0), False),
        (WorkItem("a", State.UNKNOWN, 1.0, stopped_at=2.0), True),
        (WorkItem("a", State.STOPPING, 1.0, stopped_at=2.0), False),
    ],
)
def test_an_item_is_finished_when_nothing_more_can_happen(item: WorkItem, finished_now: bool) -> None:  # noqa: FBT001 - a parameter
    assert is_finished(item) is finished_now


@pytest.mark.parametrize(
    ("item", "instant"),
    [
        (WorkItem("a", State.STOPPED, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0), 1.0),
        (WorkItem("a", State.STOPPED, None, 2.0, 3.0, 4.0, 5.0, 6.0), 2.0),
        (WorkItem("a", State.STOPPED, None, None, 3.0, 4.0, 5.0, 6.0), 3.0),
        (WorkItem("a", State.STOPPED, None, None, None, 4.0, 5.0, 6.0), 5.0),
        (WorkItem("a", State.STOPPED, None, None, None, 4.0, None, 6.0), 6.0),
        (WorkItem("a", State.QUEUED), LONG_AGO),
    ],
)
def test_the_first_instant_is_the_earliest_legible_one(item: WorkItem, instant: float) -> None:
    assert first_instant(item) == instant


@pytest.mark.parametrize(
    ("item", "instant"),
    [
        (WorkItem("a", State.QUEUED, 1.0), 1.0),
        (WorkItem("a", State.STARTING, 1.0, 2.0), 2.0),
        (WorkItem("a", State.ACTIVE, 1.0, 2.0, 3.0, 9.0), 3.0),
        (WorkItem("a", State.STOPPING, 1.0, 2.0, 3.0, 9.0, 5.0), 5.0),
        (WorkItem("a", State.STOPPED, 1.0, 2.0, 3.0, 9.0, 5.0, 6.0), 6.0),
        (WorkItem("a", State.STOPPED, None, 2.0), 2.0),
        (WorkItem("a", State.QUEUED), LONG_AGO),
    ],
)
def test_the_newest_instant_is_that_of_the_latest_step_whatever_the_heartbeats_say(
    item: WorkItem, instant: float
) -> None:
    assert newest_instant(item) == instant


# ---- what was met, and when


def test_walks_are_numbered_from_one_on() -> None:
    detector = TransitionDetector()
    assert [detector.begin_walk() for _ in range(3)] == [1, 2, 3]


def test_the_clock_is_learnt_from_new_items_alone() -> None:
    detector = _counting()
    detector.learn_clock([queued("a", 100)], 10.0)
    detector.observe(queued("a", 100), observation(now=10.0))
    assert detector.clock.at(10.0) == 100
    detector.learn_clock([active("a", 103)], 10.0)
    assert detector.clock.at(10.0) == 100
    detector.learn_clock([queued("b", 101)], 10.0)
    assert detector.clock.at(10.0) == 101


@pytest.mark.parametrize(("age_s", "shown_ahead_s"), [(59.5, 940.5), (60.0, 1000)])
def test_items_older_than_a_minute_do_not_supersede_what_newer_ones_told_of_the_clock(
    age_s: float, shown_ahead_s: float
) -> None:
    detector = _counting()
    detector.learn_clock([queued("a", 1000)], 0.0)
    for now in (MEMORY_S + 1, 2 * (MEMORY_S + 1)):
        detector.learn_clock([queued(f"older {now}", 1000 + now - age_s)], now)
    assert detector.clock.at(0.0) == shown_ahead_s


def test_a_new_item_among_those_that_were_all_met_shows_that_the_clock_has_stepped_back() -> None:
    detector = _counting()
    detector.learn_clock([queued("a", 100)], 10.0)
    detector.met.add(BEFORE_EVERYTHING, 90)
    for item in (queued("b", 95), queued("of no legible time", None)):
        detector.observe(item, observation(now=10.0))
        assert detector.clock.at(10.0) == 100
    detector.observe(queued("c", 80), observation(now=10.0))
    assert detector.clock.at(10.0) == 80


def test_an_item_that_is_followed_or_waits_to_be_told_from_another_has_been_met() -> None:
    detector = _counting()
    detector.observe(queued("a", 10), observation(read=1))
    detector.observe(queued("b", 10), observation(read=2))
    assert set(detector._unclaimed) == {"b"}
    assert [detector.has_met(queued(item_id, 10)) for item_id in "abc"] == [True, True, False]


def test_of_the_newest_forgotten_items_the_ids_tell_which_were_met_and_of_older_ones_the_intervals_do() -> None:
    detector = _counting()
    _walk(detector, [finished("a", 10)], watermark=50)
    assert [detector.has_met(finished(item_id, 10)) for item_id in "ab"] == [True, False]
    detector._remembered.floor = 10.0
    assert [detector.has_met(finished("b", created_at)) for created_at in (9, 10, 11, 60)] == [True, True, False, False]


# ---- steps


def test_each_step_is_emitted_once_when_it_is_first_seen() -> None:
    detector = _counting()
    emitted = []
    for item in (
        queued("a", 10),
        queued("a", 10),
        WorkItem("a", State.STARTING, 10.0, 11.0),
        active("a", 10),
        active("a", 10),
        finished("a", 10),
        finished("a", 10),
    ):
        _walk(detector, [item])
        emitted.append([step for _, step in _emitted(detector)])
    assert emitted == [[CREATED], [], [ACKNOWLEDGED], [STARTED], [], [STOPPED], []]


def test_an_item_that_came_and_went_between_two_reads_emits_every_step() -> None:
    detector = _counting()
    _walk(detector, [finished("a", 10)])
    assert _emitted(detector) == [("a", step) for step in Step]


def test_steps_without_a_legible_instant_are_inferred_from_the_state() -> None:
    detector = _counting()
    _walk(detector, [WorkItem("a", State.STARTING, 10.0), WorkItem("b", State.ACTIVE, 10.5)])
    assert _emitted(detector) == [
        ("a", CREATED),
        ("a", ACKNOWLEDGED),
        ("b", CREATED),
        ("b", ACKNOWLEDGED),
        ("b", STARTED),
    ]


def test_an_instant_that_becomes_legible_later_is_no_other_step() -> None:
    detector = _counting()
    _walk(detector, [WorkItem("a", State.STARTING, 10.0)])
    detector.take_transitions()
    _walk(detector, [WorkItem("a", State.STARTING, 10.0, 11.0)])
    _walk(detector, [WorkItem("a", State.STARTING, 10.0)])
    assert _emitted(detector) == []


def test_a_second_acknowledgement_is_another_step() -> None:
    detector = _counting()
    for item in (WorkItem("a", State.STARTING, 10.0, 11.0), queued("a", 10), WorkItem("a", State.STARTING, 10.0, 40.0)):
        _walk(detector, [item])
    assert [step for _, step in _emitted(detector)] == [CREATED, ACKNOWLEDGED, ACKNOWLEDGED]


# ---- the baseline


def test_what_the_first_complete_listing_shows_is_not_emitted_but_what_follows_is() -> None:
    detector = TransitionDetector()
    _walk(detector, [queued("a", 50), active("b", 51), finished("c", 52), finished("d", 99)], watermark=90)
    detector.baseline = False
    assert _emitted(detector) == []
    _walk(
        detector, [WorkItem("a", State.STARTING, 50.0, 101.0), finished("b", 51), finished("c", 52), finished("d", 99)]
    )
    assert _emitted(detector) == [("a", ACKNOWLEDGED), ("b", STOPPED)]


def test_a_step_between_two_reads_of_the_first_listing_is_not_emitted() -> None:
    detector = TransitionDetector()
    for item in (queued("a", 50), active("a", 50), finished("a", 50)):
        detector.observe(item, observation())
    assert _emitted(detector) == []


def test_finished_history_is_not_remembered_even_before_the_first_walk_ends() -> None:
    detector = TransitionDetector()
    for number in range(91):
        detector.observe(finished(str(number), number), observation(watermark=90.0))
    assert set(detector._seen_by_id) == {"90"}
    assert detector.has_met(finished("89", 89))
    assert detector._seen_by_id["90"].is_finished


def test_items_of_the_first_listing_that_share_an_instant_do_not_wait_for_each_other() -> None:
    detector = TransitionDetector()
    detector.observe(active("a", 50), observation(read=1))
    detector.observe(active("b", 50), observation(read=2))
    assert set(detector._seen_by_id) == {"a", "b"}


# ---- forgetting


def test_a_finished_item_is_forgotten_once_everything_around_it_was_met() -> None:
    detector = _counting()
    _walk(detector, [finished("a", 10)], watermark=10)
    detector.forget_finished(finished("a", 10))
    assert "a" in detector._seen_by_id
    detector.forget_finished(finished("nobody", 9))
    detector.met.add(BEFORE_EVERYTHING, 11)
    detector.forget_finished(finished("a", 10))
    assert "a" not in detector._seen_by_id
    assert len(detector._ids_by_first_instant) == 0
    detector.take_transitions()
    detector.observe(finished("a", 10), observation(read=9))
    assert detector._seen_by_id == {}
    assert _emitted(detector) == []


def test_a_live_item_is_not_forgotten_while_it_is_listed() -> None:
    detector = _counting()
    _walk(detector, [active("a", 10)], watermark=50)
    detector.forget_finished(active("a", 10))
    detector.tidy(detector.begin_walk(), tracked={"a"})
    detector.tidy(detector.begin_walk(), tracked={"a"})
    assert "a" in detector._seen_by_id


def test_an_item_that_two_walks_have_missed_is_forgotten() -> None:
    detector = _counting()
    _walk(detector, [active("a", 10)])
    _walk(detector, [])
    assert "a" in detector._seen_by_id
    _walk(detector, [])
    assert "a" not in detector._seen_by_id


def test_a_late_page_of_an_earlier_walk_does_not_take_back_that_a_later_one_met_an_item() -> None:
    detector = _counting()
    earlier, later = detector.begin_walk(), detector.begin_walk()
    for walk in (later, earlier):
        detector.observe(active("a", 10), observation(walk=walk))
    detector.tidy(later, tracked=())
    detector.tidy(detector.begin_walk(), tracked=())
    assert "a" in detector._seen_by_id


def test_an_item_that_one_walk_has_missed_goes_on_where_it_was() -> None:
    detector = _counting()
    _walk(detector, [active("a", 10)])
    _walk(detector, [])
    detector.take_transitions()
    _walk(detector, [finished("a", 10)])
    assert _emitted(detector) == [("a", STOPPED)]


def test_a_forgotten_item_that_is_alive_again_emits_only_what_happens_later() -> None:
    detector = _counting()
    _walk(detector, [finished("a", 10)], watermark=90)
    detector.take_transitions()
    _walk(detector, [queued("a", 10), queued("b", 200)], watermark=90)
    assert _emitted(detector) == [("b", CREATED)]
    for acknowledged_at in (150.0, 200.0):
        _walk(detector, [WorkItem("a", State.STARTING, 10.0, acknowledged_at), queued("b", 200)], watermark=90)
    assert _emitted(detector) == []
    _walk(detector, [WorkItem("a", State.STARTING, 10.0, 240.0), queued("b", 200)], watermark=90)
    _walk(detector, [WorkItem("a", State.STOPPED, 10.0, 240.0), queued("b", 200)], watermark=90)
    assert _emitted(detector) == [("a", ACKNOWLEDGED), ("a", STOPPED)]


@pytest.mark.parametrize("state", [State.STARTING, State.ACTIVE])
def test_steps_of_no_legible_time_are_not_emitted_again_when_a_forgotten_item_is_alive_again(state: State) -> None:
    detector = _counting()
    _walk(detector, [finished("a", 10)], watermark=90)
    detector.take_transitions()
    _walk(detector, [WorkItem("a", state, 10.0)], watermark=90)
    assert _emitted(detector) == []


# ---- new ids


ABOVE_THE_FLOOR, AT_THE_FLOOR = 79.0, 80.0


@pytest.mark.parametrize(
    ("state", "stopped_at", "floor", "becomes"),
    [
        (State.STOPPED, 90.0, ABOVE_THE_FLOOR, True),  # new
        (State.ACTIVE, None, AT_THE_FLOOR, True),  # alive
        (State.STOPPED, 97.5, AT_THE_FLOOR, True),
        (State.STOPPED, 97.0, AT_THE_FLOOR, None),
        (State.STOPPED, 94.5, AT_THE_FLOOR, None),
        (State.STOPPED, 93.0, AT_THE_FLOOR, None),
        (State.STOPPED, 92.5, AT_THE_FLOOR, False),
        (State.STOPPED, None, AT_THE_FLOOR, None),
    ],
)
def test_an_item_has_become_another_if_it_was_alive_when_that_was_seen_last(
    state: State,
    stopped_at: float | None,
    floor: float,
    becomes: bool | None,  # noqa: FBT001 - a parameter
) -> None:
    detector = _counting()
    _walk(detector, [active("a", 80), queued("c", 95)], watermark=90)
    detector._remembered.floor = floor
    item = WorkItem("b", state, 80.0, stopped_at=stopped_at)
    assert detector.has_become("a", item) is becomes
    assert detector.has_become("nobody", item) is (None if is_finished(item) and floor == AT_THE_FLOOR else True)


def test_an_item_that_was_met_before_has_become_no_other() -> None:
    detector = _counting()
    _walk(detector, [active("a", 80), active("b", 80), finished("c", 80)], watermark=90)
    assert "c" not in detector._seen_by_id
    assert detector.has_become("a", active("b", 80)) is False
    assert detector.has_become("a", active("c", 80)) is False


def test_an_item_that_is_renamed_goes_on_where_it_was() -> None:
    detector = _counting()
    _walk(detector, [active("a", 10)])
    detector.take_transitions()
    detector.renamed("a", "b")
    _walk(detector, [finished("b", 10)])
    assert _emitted(detector) == [("b", STOPPED)]


def test_an_item_that_is_listed_after_its_successor_is_itself_again_and_the_other_one_is_new() -> None:
    detector = _counting()
    _walk(detector, [active("a", 80)])
    detector.take_transitions()
    detector.renamed("a", "b")
    _walk(detector, [queued("b", 80), active("a", 80)])
    assert _emitted(detector) == [("a", CREATED)]
    _walk(detector, [finished("b", 80), finished("a", 80)])
    steps = [("b", ACKNOWLEDGED), ("b", STARTED), ("b", STOPPED), ("a", STOPPED)]
    assert _emitted(detector) == steps


def test_what_was_emitted_of_the_successor_alone_is_not_emitted_again() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 80)])
    detector.take_transitions()
    detector.renamed("a", "b")
    _walk(detector, [active("b", 80)])
    assert _emitted(detector) == [("b", ACKNOWLEDGED), ("b", STARTED)]
    _walk(detector, [active("b", 80), active("a", 80)])
    assert _emitted(detector) == [("a", CREATED), ("a", ACKNOWLEDGED), ("a", STARTED)]


def test_an_item_that_is_itself_again_after_its_successor_was_forgotten_is_new_once() -> None:
    detector = _counting()
    _walk(detector, [active("a", 80)])
    detector.take_transitions()
    detector.renamed("a", "b")
    _walk(detector, [finished("b", 80)], watermark=90)
    assert _emitted(detector) == [("b", STOPPED)]
    assert "b" not in detector._seen_by_id
    _walk(detector, [finished("b", 80), active("a", 80)])
    assert _emitted(detector) == [("a", CREATED)]
    _walk(detector, [finished("b", 80), finished("a", 80)])
    assert _emitted(detector) == [("a", STOPPED)]


def test_before_anything_is_counted_an_item_that_is_itself_again_is_not_emitted() -> None:
    detector = TransitionDetector()
    _walk(detector, [active("a", 80)])
    detector.renamed("a", "b")
    _walk(detector, [queued("b", 80), active("a", 80)])
    assert _emitted(detector) == []
    assert set(detector._seen_by_id) == {"a", "b"}


def test_a_successor_is_one_to_whoever_asks_later_too() -> None:
    detector = _counting()
    _walk(detector, [active("a", 80), active("c", 80)])
    detector.renamed("a", "b")
    assert detector.has_become("a", finished("b", 80)) is True
    assert detector.has_become("c", finished("b", 80)) is False


def test_an_item_that_seemed_to_have_a_new_id_is_nobody_elses_successor() -> None:
    detector = _counting()
    _walk(detector, [active("a", 80), active("c", 80)])
    detector.renamed("a", "b")
    assert detector.has_become("c", active("a", 80)) is False


def test_an_item_that_waits_is_the_one_that_is_gone_at_once() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 80), queued("c", 81)])
    detector.take_transitions()
    detector.observe(active("b", 80), observation(read=2, walk=2))
    detector.gone("c")
    assert _emitted(detector) == []
    detector.gone("a")
    assert _emitted(detector) == [("b", ACKNOWLEDGED), ("b", STARTED)]
    assert set(detector._seen_by_id) == {"b", "c"}


def test_an_item_that_waits_to_be_claimed_may_be_anybodys_successor() -> None:
    detector = _counting()
    _walk(detector, [active("a", 80)])
    detector.observe(queued("b", 80), observation(read=2, walk=2))
    assert detector.has_become("a", queued("b", 80)) is None


def test_so_many_new_ids_are_remembered_at_most() -> None:
    detector = _counting()
    _walk(detector, [active(f"a{number}", number) for number in range(RENAMES_LIMIT + 1)])
    for number in range(RENAMES_LIMIT + 1):
        detector.renamed(f"a{number}", f"b{number}")
    become = [detector.has_become(f"a{number}", finished(f"b{number}", number)) for number in (0, 1, RENAMES_LIMIT)]
    assert become == [False, True, True]


def test_a_name_that_is_not_known_or_known_already_changes_nothing() -> None:
    detector = _counting()
    _walk(detector, [active("a", 10), active("b", 11)])
    detector.renamed("nobody", "c")
    detector.renamed("a", "b")
    assert set(detector._seen_by_id) == {"a", "b"}
    assert detector._seen_by_id["b"].first_instant == 11


def test_an_item_that_waited_and_is_listed_under_a_new_id_is_not_created_again() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 10.5)])
    detector.take_transitions()
    _walk(detector, [queued("b", 10.5)])
    assert _emitted(detector) == []
    assert set(detector._seen_by_id) == {"b"}


def test_another_item_created_at_the_same_instant_is_a_new_one() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 10.5)])
    detector.take_transitions()
    _walk(detector, [queued("a", 10.5), queued("b", 10.5)])
    assert _emitted(detector) == [("b", CREATED)]


def test_an_item_shown_before_one_of_the_same_instant_was_is_emitted_at_the_end_of_the_read_if_both_are_listed() -> (
    None
):
    detector = _counting()
    _walk(detector, [queued("a", 10.5)])
    detector.take_transitions()
    for item in (active("b", 10.5), queued("a", 10.5)):
        detector.observe(item, observation(read=2, walk=2))
    assert _emitted(detector) == [("b", CREATED), ("b", ACKNOWLEDGED), ("b", STARTED)]


def test_an_item_that_waited_is_emitted_as_it_was_shown_last() -> None:
    detector = _counting()
    detector.observe(queued("a", 10.5), observation(read=1))
    detector.take_transitions()
    detector.observe(WorkItem("b", State.STARTING, 10.5, 11.0), observation(read=2))
    detector.observe(queued("a", 10.5), observation(read=3))
    detector.observe(WorkItem("b", State.STARTING, 10.5, 40.0), observation(read=3))
    assert _emitted(detector) == [("b", CREATED), ("b", ACKNOWLEDGED)]


def test_an_item_that_the_walk_met_in_an_earlier_read_has_not_got_a_new_id() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 10.5)])
    walk = detector.begin_walk()
    detector.observe(queued("a", 10.5), observation(read=2, walk=walk))
    detector.observe(queued("b", 10.5), observation(read=3, walk=walk))
    detector.tidy(walk, tracked=())
    assert set(detector._seen_by_id) == {"a"}


def test_an_item_that_had_finished_gets_no_new_id() -> None:
    detector = _counting()
    _walk(detector, [finished("a", 10.5)])
    detector.take_transitions()
    _walk(detector, [queued("b", 10.5)])
    assert _emitted(detector) == [("b", CREATED)]


def test_a_forgotten_item_that_is_alive_again_does_not_wait_for_others_of_its_instant() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 10.5), finished("b", 10.5)], watermark=50)
    detector.observe(queued("b", 10.5), observation(read=2))
    assert set(detector._seen_by_id) == {"a", "b"}


def test_the_others_of_an_instant_are_still_known_when_one_of_them_is_forgotten() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 10.5), finished("b", 10.5)], watermark=50)
    detector.take_transitions()
    _walk(detector, [queued("c", 10.5)], watermark=50)
    assert _emitted(detector) == []
    assert set(detector._seen_by_id) == {"c"}


@pytest.mark.parametrize(("alike", "emitted"), [(ALIKE_LIMIT, []), (ALIKE_LIMIT + 1, [("new", CREATED)])])
def test_of_many_items_of_one_instant_the_first_64_are_compared(alike: int, emitted: list[tuple[str, Step]]) -> None:
    assert ALIKE_LIMIT == 64
    detector = _counting()
    _walk(detector, [queued(str(number), 10.5) for number in range(alike)])
    detector.take_transitions()
    _walk(detector, [queued(item_id, 10.5) for item_id in (*map(str, range(alike - 1)), "new")])
    assert _emitted(detector) == emitted


def test_an_item_created_too_long_ago_to_be_remembered_may_get_a_new_id_while_it_is_alive() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 10.5)], watermark=50)
    detector.take_transitions()
    detector._remembered.floor = 50.0
    _walk(detector, [queued("b", 10.5)], watermark=50)
    assert _emitted(detector) == []
    assert set(detector._seen_by_id) == {"b"}


def test_a_finished_item_that_was_never_met_may_be_another_whenever_it_ended() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 50.5), queued("c", 200)])
    detector.take_transitions()
    _walk(detector, [WorkItem("b", State.STOPPED, 50.5, stopped_at=60.0), queued("c", 200)])
    assert _emitted(detector) == [("b", STOPPED)]


@pytest.mark.parametrize(
    ("stopped_at", "emitted"), [(98.0, []), (98.5, [("b", STOPPED)]), (110.0, [("b", STOPPED)]), (None, [])]
)
def test_a_finished_item_below_the_floor_may_be_another_if_it_ended_after_that_was_seen_alive(
    stopped_at: float | None, emitted: list[tuple[str, Step]]
) -> None:
    detector = _counting()
    _walk(detector, [queued("a", 10.5), queued("c", 100.0)], watermark=50)
    detector.take_transitions()
    detector._remembered.floor = 50.0
    _walk(detector, [WorkItem("b", State.STOPPED, 10.5, stopped_at=stopped_at), queued("c", 100.0)], watermark=50)
    assert _emitted(detector) == emitted


def test_an_item_that_got_a_new_id_and_finished_before_it_was_shown_again_emits_its_steps() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 10.5)], watermark=50)
    detector.take_transitions()
    ended = WorkItem("b", State.STOPPED, 10.5, 105.0, 106.0, 107.0, 107.0, 110.0)
    _walk(detector, [ended], watermark=50)
    assert _emitted(detector) == [("b", ACKNOWLEDGED), ("b", STARTED), ("b", STOPPED)]


@pytest.mark.parametrize("floor", [10.5, 50.0])
def test_a_finished_item_that_ended_before_another_was_last_seen_is_not_that_other(floor: float) -> None:
    detector = _counting()
    _walk(detector, [queued("a", 10.5), queued("c", 100.0)], watermark=50)
    detector.take_transitions()
    detector._remembered.floor = floor
    _walk(
        detector, [WorkItem("b", State.STOPPED, 10.5, None, None, None, 20.0, 21.0), queued("c", 100.0)], watermark=50
    )
    assert _emitted(detector) == []


def test_unclaimed_items_are_forgotten_with_those_they_might_be() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 10.5)], watermark=50)
    later = WorkItem("b", State.STOPPED, 10.5, None, None, None, 120.0, 121.0)
    detector.observe(later, observation(read=2, walk=2))
    assert set(detector._unclaimed) == {"b"}
    for _ in range(2):
        detector.tidy(detector.begin_walk(), tracked={"a"})
        assert set(detector._unclaimed) == {"b"}
    detector.tidy(detector.begin_walk(), tracked=())
    assert detector._unclaimed == {}

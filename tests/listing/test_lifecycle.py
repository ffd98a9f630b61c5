from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.api.wire import State, WorkItem
from exporter.listing.intervals import BEFORE_EVERYTHING
from exporter.listing.lifecycle import LONG_AGO, Step, TransitionDetector, first_instant, is_finished
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


def test_finished_history_is_not_remembered() -> None:
    detector = TransitionDetector()
    _walk(detector, [finished(str(n), n) for n in range(90)], watermark=95)
    assert detector._seen_by_id == {}


# ---- forgetting


def test_a_finished_item_is_forgotten_once_everything_around_it_was_met() -> None:
    detector = _counting()
    _walk(detector, [finished("a", 10)], watermark=10)
    assert "a" in detector._seen_by_id
    detector.met.add(BEFORE_EVERYTHING, 11)
    detector.forget_finished(finished("a", 10))
    assert "a" not in detector._seen_by_id
    assert detector._ids_by_first_instant == {}
    detector.take_transitions()
    _walk(detector, [finished("a", 10)])
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
    detector.take_transitions()
    _walk(detector, [WorkItem("a", State.STARTING, 10.0, 150.0), queued("b", 200)], watermark=90)
    assert _emitted(detector) == []
    _walk(detector, [WorkItem("a", State.STARTING, 10.0, 240.0), queued("b", 200)], watermark=90)
    _walk(detector, [WorkItem("a", State.STOPPED, 10.0, 240.0), queued("b", 200)], watermark=90)
    assert _emitted(detector) == [("a", ACKNOWLEDGED), ("a", STOPPED)]


# ---- new ids


def test_an_item_that_is_renamed_goes_on_where_it_was() -> None:
    detector = _counting()
    _walk(detector, [active("a", 10)])
    detector.take_transitions()
    detector.renamed("a", "b")
    _walk(detector, [finished("b", 10)])
    assert _emitted(detector) == [("b", STOPPED)]


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


def test_an_item_that_got_a_new_id_and_finished_before_it_was_shown_again_emits_its_steps() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 10.5)], watermark=50)
    detector.take_transitions()
    ended = WorkItem("b", State.STOPPED, 10.5, 105.0, 106.0, 107.0, 107.0, 110.0)
    _walk(detector, [ended], watermark=50)
    assert _emitted(detector) == [("b", ACKNOWLEDGED), ("b", STARTED), ("b", STOPPED)]


def test_a_finished_item_that_ended_before_another_was_last_seen_is_not_that_other() -> None:
    detector = _counting()
    _walk(detector, [queued("a", 10.5), queued("c", 100.0)], watermark=50)
    detector.take_transitions()
    detector._remembered.floor = 50.0
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

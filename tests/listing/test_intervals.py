from __future__ import annotations

import pytest

from exporter.listing.intervals import BEFORE_EVERYTHING, IntervalSet


def _covered(intervals: IntervalSet, instants: range) -> list[int]:
    return [instant for instant in instants if intervals.cover(instant, "any")]


def test_nothing_is_covered_at_first() -> None:
    assert not IntervalSet().cover(0.0, "a")


def test_an_interval_covers_what_lies_between_its_ends_but_not_its_ends() -> None:
    intervals = IntervalSet()
    intervals.add(2, 5)
    assert _covered(intervals, range(8)) == [3, 4]


def test_at_an_edge_only_the_noted_items_are_covered() -> None:
    intervals = IntervalSet()
    intervals.add(2, 5, edge=2, edge_ids={"a"})
    intervals.add(2, 5, edge=2, edge_ids={"b"})
    assert [intervals.cover(2, item_id) for item_id in "abc"] == [True, True, False]


@pytest.mark.parametrize(
    ("first", "second", "covered"),
    [
        ((2, 5), (4, 8), [3, 4, 5, 6, 7]),
        ((4, 8), (2, 5), [3, 4, 5, 6, 7]),
        ((2, 8), (4, 5), [3, 4, 5, 6, 7]),
        ((4, 5), (2, 8), [3, 4, 5, 6, 7]),
        ((2, 4), (6, 8), [3, 7]),
        ((6, 8), (2, 4), [3, 7]),
        ((2, 4), (4, 6), [3, 5]),
        ((4, 6), (2, 4), [3, 5]),
    ],
)
def test_intervals_that_overlap_become_one_and_others_stay_apart(
    first: tuple[int, int], second: tuple[int, int], covered: list[int]
) -> None:
    intervals = IntervalSet()
    intervals.add(*first)
    intervals.add(*second)
    assert _covered(intervals, range(10)) == covered
    assert len(intervals._intervals) == (1 if len(covered) == 5 else 2)


def test_one_interval_may_join_two_others() -> None:
    intervals = IntervalSet()
    intervals.add(0, 3)
    intervals.add(5, 8)
    intervals.add(2, 6)
    assert intervals._intervals == [(0, 8)]


def test_an_empty_interval_covers_nothing_but_its_edge() -> None:
    intervals = IntervalSet()
    intervals.add(5, 5, edge=5, edge_ids={"a"})
    assert intervals._intervals == []
    assert intervals.cover(5, "a")
    assert not intervals.cover(5, "b")


def test_the_noted_items_are_forgotten_when_their_edge_is_no_end_any_more() -> None:
    intervals = IntervalSet()
    intervals.add(5, 8, edge=5, edge_ids={"a"})
    intervals.add(BEFORE_EVERYTHING, 6)
    assert intervals.cover(5, "another")
    assert intervals._ids_by_edge == {}


def test_the_noted_items_stay_while_their_edge_is_an_end() -> None:
    intervals = IntervalSet()
    intervals.add(5, 8, edge=5, edge_ids={"a"})
    intervals.add(1, 3, edge=3, edge_ids={"b"})
    assert intervals.cover(5, "a")
    assert intervals.cover(3, "b")
